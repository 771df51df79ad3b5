#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/core/precision.h"
#include "engine/core/simd.h"
#include "engine/core/workspace.h"
#include "engine/gemm/register_tile.h"
#include "engine/gemm/task_cut.h"
#include "engine/gemm/tile_output.h"

// Products in f32 and f64, of one task: blocks of k, panels of columns, strips of rows. `Tile` is
// one of register_tile.h. Include it in *_cpu.cc files only.
namespace engine::kernels {

// k is cut here: the rows that a tile multiplies, 8 x 256 floats, stay in the first cache while
// panel after panel comes out of the second.
inline constexpr int64_t kDepth = 256;
// Rows of one task where all of b is packed.
inline constexpr int64_t kRowBlock = 96;
// So many rows are not cut where there are columns enough for all threads.
inline constexpr int64_t kFewRows = 256;
// Rows of one task where it packs b itself: fewer would pack more than they multiply.
inline constexpr int64_t kMinRows = 48;
// Panels that are gone through for each strip of rows: they stay in the second cache.
inline constexpr int64_t kGroupBytes = 768 << 10;

// How many panels go together at most.
template <class T, class Tile>
int64_t most_together(int64_t depth) {
  const int64_t bytes = depth * Tile::kCols * static_cast<int64_t>(sizeof(T));
  return std::max<int64_t>(1, kGroupBytes / std::max<int64_t>(1, bytes));
}
// How many of `panels` go together, in equal groups.
template <class T, class Tile>
int64_t panels_together(int64_t panels, int64_t depth) {
  const int64_t groups = pieces_of(panels, most_together<T, Tile>(depth));
  return pieces_of(panels, std::max<int64_t>(1, groups));
}

// g++ says that Packet's alignment does not count in a template's argument; here it does not
// matter.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
// to = from transposed, as many rows and columns as a register has lanes.
template <class T>
void transpose_square(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  constexpr int kLanes = simd::kLanes<T>;
  Eigen::internal::PacketBlock<simd::Packet<T>, kLanes> block;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) block.packet[i] = simd::load(from + i * from_stride);
  Eigen::internal::ptranspose(block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) simd::store(to + i * to_stride, block.packet[i]);
}

#pragma GCC diagnostic pop

// One panel: columns [j, j + kCols) of op(b), rows [p, p + depth), zero-padded.
template <class T, class Tile>
void copy_panel(const Operand<T>& b, int64_t n, int64_t j, int64_t p, int64_t depth, T* panel) {
  constexpr int64_t kCols = Tile::kCols, kLanes = simd::kLanes<T>;
  const int64_t cols = std::min(kCols, n - j);
  if (b.col == 1 && cols == kCols) {
    for (int64_t q = 0; q < depth; ++q, panel += kCols) {
      const T* from = b.at(p + q, j);
#pragma GCC unroll 6
      for (int64_t i = 0; i < kCols; i += kLanes) simd::store(panel + i, simd::load(from + i));
    }
    return;
  }
  // Lanes beyond the last column are multiplied too where they share a register with it, which is
  // one of 64 bytes at most.
  constexpr int64_t kShared = 64 / sizeof(T);
  const int64_t padded = std::min(kCols, (cols + kShared - 1) / kShared * kShared);
  if (b.row == 1) {
    const int64_t whole_cols = cols / kLanes * kLanes, whole_depth = depth / kLanes * kLanes;
    for (int64_t i = 0; i < whole_cols; i += kLanes) {
      for (int64_t q = 0; q < whole_depth; q += kLanes) {
        transpose_square(b.at(p + q, j + i), b.col, panel + q * kCols + i, kCols);
      }
    }
    for (int64_t i = 0; i < cols; ++i) {
      const T* from = b.at(p, j + i);
      for (int64_t q = i < whole_cols ? whole_depth : 0; q < depth; ++q)
        panel[q * kCols + i] = from[q];
    }
    for (int64_t q = 0; cols < padded && q < depth; ++q) {
      std::fill(panel + q * kCols + cols, panel + q * kCols + padded, T(0));
    }
    return;
  }
  for (int64_t q = 0; q < depth; ++q, panel += kCols) {
    std::copy_n(b.at(p + q, j), cols, panel);
    std::fill(panel + cols, panel + padded, T(0));
  }
}

// The same, as it is multiplied.
template <class T, class Tile>
void pack_panel(const Operand<T>& b, int64_t n, int64_t j, int64_t p, int64_t depth, T* panel) {
  copy_panel<T, Tile>(b, n, j, p, depth, panel);
  if constexpr (Tile::kRounds) round_to_bf16(panel, depth * Tile::kCols);
}

// Asks for the lines of rows [begin, end) of a block, `width` elements each, before they are used:
// short or strided rows are beyond what hardware foresees.
template <class T>
void prefetch_rows(const T* block, int64_t stride, int64_t width, int64_t begin, int64_t end) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t i = 0; i < width; i += kLine) __builtin_prefetch(block + r * stride + i, 0, 3);
  }
}

// Asks for part `piece` of `pieces` of the strip at (i, p) of op(a).
template <class T, class Tile>
void prefetch_strip(const Operand<T>& a, int64_t i, int64_t p, int64_t rows, int64_t depth,
                    int64_t piece, int64_t pieces) {
  const bool across = a.col != 1;  // lines run along the strip's columns
  const int64_t lines = across ? depth : rows;
  prefetch_rows(a.at(i, p), across ? a.col : a.row, across ? rows : depth, lines * piece / pieces,
                lines * (piece + 1) / pieces);
}

// Rows [i, i + rows) of op(a), `depth` steps of k from p, as one or two strips: kRows columns of
// memory side by side if a is transposed, else rows of `depth`. Of a transposed a as much as a line
// of 64 bytes holds, since lines may be gone when the next strip would want them.
template <class T, class Tile>
void pack_strips(const Operand<T>& a, int64_t i, int64_t rows, int64_t p, int64_t depth, T* strip) {
  constexpr int kRows = Tile::kRows;
  T* const begin = strip;
  for (int64_t r = 0; r < rows; r += kRows, strip += depth * kRows) {
    const T* from = a.at(i + r, p);
    const int64_t count = std::min<int64_t>(kRows, rows - r);
    if (a.row != 1) {
      for (int64_t q = 0; q < count; ++q) std::copy_n(from + q * a.row, depth, strip + q * depth);
    } else if (count == kRows) {
      for (int64_t q = 0; q < depth; ++q) std::copy_n(from + q * a.col, kRows, strip + q * kRows);
    } else {
      for (int64_t q = 0; q < depth; ++q) std::copy_n(from + q * a.col, count, strip + q * kRows);
    }
  }
  if constexpr (Tile::kRounds) round_to_bf16(begin, strip - begin);
}

// One of them, as an operand.
template <class T, class Tile>
Operand<T> packed_strip(const Operand<T>& a, const T* strip, int64_t depth) {
  return a.row == 1 ? Operand<T>{strip, 1, Tile::kRows} : Operand<T>{strip, depth, 1};
}

// Rows [i, i + rows) of op(a), `depth` steps of k from p, as a tile multiplies them: where they
// lie, unless they have to be rounded into `strip`. multiply_packed() takes anything that has this
// and prefetch_strip(): see window_rows.h.
template <class T, class Tile>
Operand<T> strip_of(const Operand<T>& a, int64_t i, int64_t rows, int64_t p, int64_t depth,
                    T* strip) {
  if constexpr (Tile::kRounds) {
    pack_strips<T, Tile>(a, i, rows, p, depth, strip);
    return packed_strip<T, Tile>(a, strip, depth);
  } else {
    return {a.at(i, p), a.row, a.col};
  }
}

// A tile to where it belongs, by way of `tile` unless registers can be put there as they are.
template <class T, class Tile>
void multiply_to(int64_t rows, int64_t cols, int64_t depth, const Operand<T>& a, const T* panel,
                 Ahead<T> ahead, T* tile, const Output<T>& out) {
  if (cols == Tile::kCols && out.plain()) {
    return Tile::multiply(rows, cols, depth, a, panel, out.c, out.ldc, ahead);
  }
  Tile::multiply(rows, cols, depth, a, panel, tile, Tile::kCols, ahead);
  write_tile<T, Tile::kCols>(tile, rows, cols, out);
}

// Rows [begin, end) of c from a wholly packed b: panel-major, (panels, k, kCols).
template <class T, class Tile, class Rows>
void multiply_packed(const Rows& a, int64_t begin, int64_t end, int64_t n, int64_t k,
                     const T* packed, int64_t panel_begin, int64_t panel_end, T* c, int64_t ldc,
                     GradWrite write, const Epilogue<T>& epilogue, int64_t all_rows) {
  constexpr int64_t kRows = Tile::kRows, kCols = Tile::kCols;
  constexpr bool kWholeLines = kCols * sizeof(T) % 64 == 0;  // not those of AVX2
  const bool stream =
      kWholeLines && streams<T>(all_rows, {c, ldc, false, true, epilogue}, k <= kDepth);
  alignas(64) T tile[kRows * kCols];
  alignas(64) T strip[kRows * kDepth];
  int64_t p = 0;
  do {
    const int64_t depth = std::min(kDepth, k - p);
    const int64_t together = panels_together<T, Tile>(panel_end - panel_begin, depth);
    const bool add = p > 0 || write == GradWrite::kAccumulate;
    const Output<T> out{c, ldc, add, p + depth >= k, epilogue, stream};
    for (int64_t first = panel_begin; first < panel_end; first += together) {
      const int64_t last = std::min(panel_end, first + together);
      for (int64_t i = begin; i < end; i += kRows) {
        const int64_t rows = std::min(kRows, end - i), next = i + kRows;
        const Operand<T> here = strip_of<T, Tile>(a, i, rows, p, depth, strip);
        for (int64_t panel = first; panel < last; ++panel) {
          const int64_t j = panel * kCols, cols = std::min(kCols, n - j);
          if (next < end) {
            prefetch_strip<T, Tile>(a, next, p, std::min(kRows, end - next), depth, panel - first,
                                    last - first);
          }
          const T* panel_b = packed + (panel * k + p) * kCols;
          multiply_to<T, Tile>(rows, cols, depth, here, panel_b, {panel_b, 0}, tile, out.at(i, j));
        }
      }
    }
    p += kDepth;
  } while (p < k);
  if (stream) simd::stream_end();
}

// What comes after the block that is being multiplied: rows [p, p + depth) of a transposed a and of
// b, of which each tile fetches a part. Other layouts are fetched by hardware.
template <class T>
struct NextBlock {
  const T *a, *b;  // null: nothing to fetch
  int64_t a_width, b_width, a_stride, b_stride, depth;

  // The part of tile `share` of `shares`; `here` stands for nothing. A part is a line of 64 bytes
  // wide and a quarter of the block deep, as long as the tile takes.
  Ahead<T> part(int64_t share, int64_t shares, const T* here) const {
    constexpr int64_t kLine = 64 / sizeof(T);
    const int64_t a_parts = a == nullptr ? 0 : pieces_of(a_width, kLine) * kStepsALine;
    const int64_t b_parts = b == nullptr ? 0 : pieces_of(b_width, kLine) * kStepsALine;
    const int64_t parts = a_parts + b_parts, part = share * parts / shares;
    if (parts == 0 || (share > 0 && part == (share - 1) * parts / shares)) return {here, 0};
    const bool of_a = part < a_parts;
    const int64_t index = of_a ? part : part - a_parts, stride = of_a ? a_stride : b_stride;
    const int64_t row = index % kStepsALine * depth / kStepsALine;
    return {(of_a ? a : b) + row * stride + index / kStepsALine * kLine, stride};
  }
};

// Rows [begin, end) of a and columns [j, j + cols) of b, from step p of k on.
template <class T>
NextBlock<T> next_block(const Operand<T>& a, const Operand<T>& b, int64_t begin, int64_t end,
                        int64_t j, int64_t cols, int64_t p, int64_t k) {
  const bool fetch_a = a.row == 1 && p < k && begin < end, fetch_b = b.col == 1 && p < k;
  return {fetch_a ? a.at(begin, p) : nullptr,
          fetch_b ? b.at(p, j) : nullptr,
          end - begin,
          cols,
          a.col,
          b.row,
          std::min(kDepth, k - p)};
}

// Whether strips of op(a) are worth packing. A transposed a is read well where it lies, each step a
// line out of the second cache, unless many panels come by or its lines share too few of that
// cache's sets (measured: 8 KiB apart are fine, 12 are not).
template <class T, class Tile>
bool packs_strips(const Operand<T>& a, int64_t panels) {
  constexpr int64_t kFar = (int64_t{8} << 10) / static_cast<int64_t>(sizeof(T)), kManyPanels = 8;
  return Tile::kRounds || (a.row == 1 && panels > 1 && (panels > kManyPanels || a.col > kFar));
}

// Takes this thread's memory for multiply_packing() of up to `panels` panels.
template <class T, class Tile>
void prepare_packing(int64_t panels) {
  constexpr int64_t kLine = 64 / sizeof(T);
  // A last cut of fewer panels may put more of them together.
  workspace<T>(1, std::min(panels, most_together<T, Tile>(kDepth)) * kDepth * Tile::kCols);
  workspace<T>(2, std::max<int64_t>(kLine, Tile::kRows) * kDepth);
}

// Rows [begin, end) x panels of c = op(a) op(b), packing b (and a transposed a) block by block on
// this thread: for products whose k is long (weight gradients), and for small ones.
template <class T, class Tile>
void multiply_packing(const Operand<T>& a, const Operand<T>& b, int64_t begin, int64_t end,
                      int64_t n, int64_t k, int64_t panel_begin, int64_t panel_end, T* c,
                      int64_t ldc, GradWrite write) {
  constexpr int64_t kRows = Tile::kRows, kCols = Tile::kCols;
  constexpr int64_t kPacked = std::max<int64_t>(64 / sizeof(T), kRows);
  const int64_t together = panels_together<T, Tile>(panel_end - panel_begin, kDepth);
  T* panels = workspace<T>(1, together * kDepth * kCols);
  const bool pack_a = packs_strips<T, Tile>(a, panel_end - panel_begin);
  T* strips = pack_a ? workspace<T>(2, kPacked * kDepth) : nullptr;
  alignas(64) T tile[kRows * kCols];
  int64_t p = 0;
  do {
    const int64_t depth = std::min(kDepth, k - p);
    const bool add = p > 0 || write == GradWrite::kAccumulate;
    for (int64_t first = panel_begin; first < panel_end; first += together) {
      const int64_t last = std::min(panel_end, first + together);
      for (int64_t panel = first; panel < last; ++panel) {
        pack_panel<T, Tile>(b, n, panel * kCols, p, depth,
                            panels + (panel - first) * kDepth * kCols);
      }
      const NextBlock<T> next =
          last == panel_end ? next_block(a, b, begin, end, panel_begin * kCols,
                                         std::min(n, together * kCols), p + kDepth, k)
                            : next_block(a, b, begin, begin, last * kCols, n - last * kCols, p, k);
      int64_t share = 0;
      const int64_t shares = pieces_of(end - begin, kRows) * (last - first);
      for (int64_t i = begin; i < end; i += kRows) {
        const int64_t rows = std::min<int64_t>(kRows, end - i), packed = (i - begin) % kPacked;
        if (pack_a && packed == 0) {
          pack_strips<T, Tile>(a, i, std::min(kPacked, end - i), p, depth, strips);
        }
        const Operand<T> here = pack_a ? packed_strip<T, Tile>(a, strips + packed * depth, depth)
                                       : Operand<T>{a.at(i, p), a.row, a.col};
        for (int64_t panel = first; panel < last; ++panel, ++share) {
          const int64_t j = panel * kCols, cols = std::min(kCols, n - j);
          const T* packed_b = panels + (panel - first) * kDepth * kCols;
          multiply_to<T, Tile>(rows, cols, depth, here, packed_b,
                               next.part(share, shares, packed_b), tile,
                               {c + i * ldc + j, ldc, add, false, {}});
        }
      }
    }
    p += kDepth;
  } while (p < k);
}

}  // namespace engine::kernels
