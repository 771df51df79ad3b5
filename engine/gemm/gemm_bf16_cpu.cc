#include "engine/gemm/gemm_bf16.h"

#include <algorithm>

#include "engine/core/cpu_features.h"
#include "engine/core/workspace.h"
#include "engine/gemm/bf16_tiles.h"
#include "engine/gemm/task_cut.h"
#include "engine/gemm/tile_output.h"

namespace engine::kernels {
namespace {

const Bf16Tiles*& chosen_tiles() {
  static const Bf16Tiles* tiles = usable_isa() == Isa::kAmx ? bf16_tiles_amx() : nullptr;
  return tiles;
}

constexpr int64_t kTile = kBf16Tile, kStep = kBf16Step, kBlock = kBf16Block;
// k is cut here: most layers are one block. A strip of it takes 48 KiB, so that those of a task
// stay in the second cache.
constexpr int64_t kDepth = 768;
// Rows of one task where all of b is packed: 128 x 768 numbers are 192 KiB.
constexpr int64_t kRowBlock = 128;

int64_t steps_of(int64_t k) { return pieces_of(k, kStep); }
// Elements of a packed strip or panel over k.
int64_t packed_size(int64_t k) { return steps_of(k) * 2 * kBlock; }

// Asks for a block's memory ahead of time, one or two lines of the cache a line of it.
void prefetch_block(const float* from, int64_t stride, int64_t lines, int64_t length) {
  for (int64_t i = 0; i < lines; ++i) {
    __builtin_prefetch(from + i * stride, 0, 2);
    if (length > 16) __builtin_prefetch(from + i * stride + 16, 0, 2);
  }
}

// Packs rows of op(a) into strips, or columns of op(b) into panels, which lie `tile_size` elements
// apart, over `depth` steps of k; the lines of both are `stride` apart in memory. Asks for what
// comes next while it packs, since such strides are beyond what hardware foresees.
struct Packer {
  const Bf16Tiles& tiles;
  bool for_a;  // strips, else panels
  int64_t tile_size;

  // Each of the `width` rows or columns is a line: k runs along it.
  void along(const float* from, int64_t stride, int64_t width, int64_t depth, bf16* to) const {
    for (int64_t t = 0; t < width; t += kTile, to += tile_size) {
      bf16* block = to;
      for (int64_t q = 0; q < depth; q += kStep) {
        for (int64_t half = 0; half < 2; ++half, block += kBlock) {
          const int64_t line = t + 16 * half, lines = std::clamp<int64_t>(width - line, 0, 16);
          const int64_t length = std::min(kStep, depth - q);
          const int64_t next = std::clamp<int64_t>(width - line - kTile, 0, 16);
          prefetch_block(from + (line + kTile) * stride + q, stride, next, length);
          if (lines == 0) continue;  // is not multiplied
          tiles.pack({false, !for_a}, from + line * stride + q, stride, lines, length, block);
        }
      }
    }
  }
  // k runs from line to line; all tiles of a step come before the next step.
  void across(const float* from, int64_t stride, int64_t width, int64_t depth, bf16* to) const {
    for (int64_t q = 0; q < depth; q += kStep, to += 2 * kBlock) {
      const int64_t lines = std::min(kStep, depth - q);
      const int64_t next = std::clamp<int64_t>(depth - q - kStep, 0, kStep);
      for (int64_t i = 0; i < width; i += 16) {
        const float* at = from + q * stride + i;
        prefetch_block(at + kStep * stride, stride, next, 16);
        tiles.pack({true, for_a}, at, stride, lines, std::min<int64_t>(16, width - i),
                   to + i / kTile * tile_size + i % kTile / 16 * kBlock);
      }
    }
  }
};

// Rows [i, i + rows) of op(a), `depth` steps of k from p, strip by strip.
void pack_strips(const Bf16Tiles& tiles, const Operand<float>& a, int64_t i, int64_t rows,
                 int64_t p, int64_t depth, bf16* strips) {
  const Packer packer{tiles, true, packed_size(depth)};
  if (a.col == 1) return packer.along(a.at(i, p), a.row, rows, depth, strips);
  packer.across(a.at(i, p), a.col, rows, depth, strips);
}

// Columns [j, j + cols) of op(b), likewise, panel by panel.
void pack_panels(const Bf16Tiles& tiles, const Operand<float>& b, int64_t j, int64_t cols,
                 int64_t p, int64_t depth, bf16* panels) {
  const Packer packer{tiles, false, packed_size(depth)};
  if (b.row == 1) return packer.along(b.at(p, j), b.col, cols, depth, panels);
  packer.across(b.at(p, j), b.row, cols, depth, panels);
}

// A part of c: rows [begin, end), panels [panel_begin, panel_end) of the n columns.
struct Region {
  int64_t begin, end, panel_begin, panel_end;
};

// Memory of one thread for multiply_region(); panels: of b, where they are packed there.
void prepare(int64_t rows, int64_t panels, int64_t k) {
  const int64_t size = packed_size(std::min(k, kDepth));
  workspace<bf16>(1, panels * size);
  workspace<bf16>(2, pieces_of(rows, kTile) * size);
}

// The region's part of c = op(a) op(b), on this thread. `packed`: all of b, panel by panel and over
// all of k; null: panels are packed here.
void multiply_region(const Operand<float>& a, const Operand<float>& b, const bf16* packed,
                     const Region& at, int64_t n, int64_t k, const Output<float>& out) {
  const Bf16Tiles& tiles = *bf16_tiles();
  alignas(64) float tile[kTile * kTile];
  const int64_t panels = packed == nullptr ? at.panel_end - at.panel_begin : 0;
  prepare(at.end - at.begin, panels, k);
  bf16* const here = workspace<bf16>(1, 0);
  bf16* const strips = workspace<bf16>(2, 0);
  tiles.begin();
  int64_t p = 0;
  do {
    const int64_t depth = std::min(kDepth, k - p), size = packed_size(depth);
    const int64_t first = at.panel_begin * kTile;
    pack_strips(tiles, a, at.begin, at.end - at.begin, p, depth, strips);
    if (packed == nullptr) {
      pack_panels(tiles, b, first, std::min(n, at.panel_end * kTile) - first, p, depth, here);
    }
    for (int64_t panel = at.panel_begin; panel < at.panel_end; ++panel) {
      const int64_t j = panel * kTile, cols = std::min(kTile, n - j);
      const bf16* from = packed == nullptr ? here + (panel - at.panel_begin) * size
                                           : packed + panel * packed_size(k) + packed_size(p);
      for (int64_t i = at.begin; i < at.end; i += kTile) {
        const int64_t rows = std::min(kTile, at.end - i);
        Output<float> to = out.at(i, j);
        to.add = out.add || p > 0;
        to.last = p + depth >= k;
        const bf16* strip = strips + (i - at.begin) / kTile * size;
        if (rows == kTile && cols == kTile && to.plain()) {
          tiles.multiply(steps_of(depth), rows, cols, strip, from, to.c, to.ldc);
          continue;
        }
        tiles.multiply(steps_of(depth), rows, cols, strip, from, tile, kTile);
        write_tile<float, kTile>(tile, rows, cols, to);
      }
    }
    p += kDepth;
  } while (p < k);
  tiles.end();
  if (out.stream) simd::stream_end();
}

// Packs all of b, task by task: task t is panel t % panels of matrix t / panels.
void pack_task(const Operand<float>& b, int64_t panel, int64_t n, int64_t k, bf16* to) {
  const int64_t j = panel * kTile;
  pack_panels(*bf16_tiles(), b, j, std::min(kTile, n - j), 0, k, to);
}

Output<float> output(int64_t m, int64_t k, float* c, int64_t ldc, GradWrite write,
                     const Epilogue<float>& epilogue) {
  Output<float> out{c, ldc, write == GradWrite::kAccumulate, false, epilogue};
  out.stream = streams(m, out, k <= kDepth);
  return out;
}

}  // namespace

const Bf16Tiles* bf16_tiles() { return chosen_tiles(); }

Bf16TilesScope::Bf16TilesScope(const Bf16Tiles* tiles) : before_(chosen_tiles()) {
  chosen_tiles() = tiles;
}
Bf16TilesScope::~Bf16TilesScope() { chosen_tiles() = before_; }

std::string_view bf16_method() {
  return bf16_tiles() == nullptr
             ? "bf16 by products of rounded f32, without AMX: no faster than f32"
             : "bf16 by AMX";
}

void gemm_serial_bf16(Trans ta, Trans tb, GemmSize size, const float* a, int64_t lda,
                      const float* b, int64_t ldb, float* c, int64_t ldc, GradWrite write) {
  if (size.m == 0 || size.n == 0) return;
  multiply_region(operand(ta, a, lda), operand(tb, b, ldb), nullptr,
                  {0, size.m, 0, pieces_of(size.n, kTile)}, size.n, size.k,
                  output(0, size.k, c, ldc, write, {}));
}

void gemm_bf16(Trans ta, Trans tb, GemmSize size, const float* a, int64_t lda, const float* b,
               int64_t ldb, float* c, int64_t ldc, GradWrite write,
               const Epilogue<float>& epilogue) {
  const int64_t m = size.m, n = size.n, k = size.k, panels = pieces_of(n, kTile);
  if (m == 0 || n == 0) return;
  const Operand<float> a_op = operand(ta, a, lda), b_op = operand(tb, b, ldb);
  // A long k beside few rows: c stays, and what is packed of b is used at once.
  const bool packing = ta == Trans::kYes;
  TaskCut cut = packing_cut(m, panels, kTile, kTile, 2 * kTile, num_threads());
  bf16* packed = nullptr;
  if (!packing) {
    cut.rows = std::min(kRowBlock, piece_size(m, tasks_wanted(), kTile));
    cut.panels = piece_size(panels, tasks_wanted() / pieces_of(m, cut.rows), 1);
    packed = workspace<bf16>(0, panels * packed_size(k));
    parallel_tasks(panels,
                   [&](int64_t t) { pack_task(b_op, t, n, k, packed + t * packed_size(k)); });
  }
  const int64_t panel_cuts = pieces_of(panels, cut.panels);
  parallel_tasks(
      pieces_of(m, cut.rows) * panel_cuts,
      [&](int64_t t) {
        const int64_t begin = t / panel_cuts * cut.rows, first = t % panel_cuts * cut.panels;
        multiply_region(
            a_op, b_op, packed,
            {begin, std::min(m, begin + cut.rows), first, std::min(panels, first + cut.panels)}, n,
            k, output(m, k, c, ldc, write, epilogue));
      },
      [&] { prepare(cut.rows, packing ? cut.panels : 0, k); });
}

void grouped_gemm_bf16(Trans tb, const int32_t* offset, int64_t groups, GemmSize size,
                       const float* a, const float* b, float* c, GradWrite write,
                       const Epilogue<float>& epilogue) {
  const int64_t n = size.n, k = size.k, panels = pieces_of(n, kTile);
  if (size.m == 0 || n == 0) return;
  const int64_t ldb = tb == Trans::kNo ? n : k;
  bf16* packed = workspace<bf16>(0, groups * panels * packed_size(k));
  parallel_tasks(groups * panels, [&](int64_t t) {
    const int64_t g = t / panels;
    if (offset[g] == offset[g + 1]) return;
    pack_task(operand(tb, b + g * k * n, ldb), t % panels, n, k, packed + t * packed_size(k));
  });
  parallel_tasks(
      row_blocks_at_most(size.m, groups, kRowBlock),
      [&](int64_t t) {
        const RowBlock block = row_block(offset, groups, kRowBlock, t);
        if (block.group == groups) return;
        Epilogue<float> e = epilogue;
        if (e.bias != nullptr) e.bias += block.group * n;
        multiply_region(
            operand(Trans::kNo, a, k), {}, packed + block.group * panels * packed_size(k),
            {block.begin, block.end, 0, panels}, n, k, output(size.m, k, c, n, write, e));
      },
      [&] { prepare(kRowBlock, 0, k); });
}

void grouped_gemm_transposed_bf16(const int32_t* offset, int64_t groups, GemmSize size,
                                  const float* a, const float* b, float* c, GradWrite write) {
  const int64_t m = size.m, n = size.n, panels = pieces_of(n, kTile);
  if (groups == 0 || m == 0 || n == 0) return;
  // Experts are unequal: a few tasks each, whatever the number of threads, keep all busy.
  const TaskCut cut = packing_cut(m, panels, kTile, kTile, 2 * kTile,
                                  std::max<int64_t>(2, pieces_of(tasks_wanted(), groups)));
  const int64_t row_cuts = pieces_of(m, cut.rows), cuts = row_cuts * pieces_of(panels, cut.panels);
  parallel_tasks(
      groups * cuts,
      [&](int64_t t) {
        const int64_t g = t / cuts, begin = t % cuts % row_cuts * cut.rows,
                      first = t % cuts / row_cuts * cut.panels;
        multiply_region(
            operand(Trans::kYes, a + offset[g] * m, m), operand(Trans::kNo, b + offset[g] * n, n),
            nullptr,
            {begin, std::min(m, begin + cut.rows), first, std::min(panels, first + cut.panels)}, n,
            offset[g + 1] - offset[g], output(0, size.k, c + g * m * n, n, write, {}));
      },
      [&] { prepare(cut.rows, cut.panels, kDepth); });
}

}  // namespace engine::kernels
