#include "engine/gemm/gemm.h"

#include <algorithm>
#include <type_traits>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/core/workspace.h"
#include "engine/gemm/gemm_bf16.h"
#include "engine/gemm/task_cut.h"
#include "engine/gemm/tile_output.h"

namespace engine::kernels {
namespace {

using simd::kLanes;
using simd::Packet;

// A register tile is kRows rows by three vector registers of columns: 24 + 3 + 1 of the 32
// registers of AVX-512, 12 + 3 + 1 of AVX2's 16.
constexpr int kVectors = 3;
constexpr int kRows = kLanes<float> >= 16 ? 8 : 4;
template <class T>
constexpr int64_t kCols = kVectors* kLanes<T>;
// k is cut here: a packed panel of 192 x 48 floats and a strip of a stay in an L1 of 48 KiB.
constexpr int64_t kDepth = 192;
// Rows of one task where a is not transposed: 96 x 192 floats stay in L2.
constexpr int64_t kRowBlock = 96;
// Rows of one task where it packs b itself: fewer would pack more than they multiply.
constexpr int64_t kMinRows = 48;

// tile (rows, kCols) = op(a)[0..rows) x panel over `depth` steps of k, its first `vectors`
// registers of columns. Each element is one chain of fma over increasing k: the row guarantee
// lives in this loop.
template <class T, int rows, int vectors>
void multiply_tile(int64_t depth, const Operand<T>& a, const T* panel, T* tile) {
  Packet<T> acc[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) acc[r][v] = simd::set(T(0));
  }
  const T* at = a.data;
  for (int64_t p = 0; p < depth; ++p, at += a.col, panel += kCols<T>) {
    Packet<T> b[vectors];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) b[v] = simd::load(panel + v * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const Packet<T> x = simd::set(at[r * a.row]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) acc[r][v] = simd::fma(x, b[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) simd::store(tile + r * kCols<T> + v * kLanes<T>, acc[r][v]);
  }
}

template <class T, int vectors>
void multiply_rows(int64_t rows, int64_t depth, const Operand<T>& a, const T* panel, T* tile) {
  switch (rows) {
    case 1:
      return multiply_tile<T, 1, vectors>(depth, a, panel, tile);
    case 2:
      return multiply_tile<T, 2, vectors>(depth, a, panel, tile);
    case 3:
      return multiply_tile<T, 3, vectors>(depth, a, panel, tile);
    case 4:
      return multiply_tile<T, 4, vectors>(depth, a, panel, tile);
    default:
      break;
  }
  if constexpr (kRows == 8) {
    switch (rows) {
      case 5:
        return multiply_tile<T, 5, vectors>(depth, a, panel, tile);
      case 6:
        return multiply_tile<T, 6, vectors>(depth, a, panel, tile);
      case 7:
        return multiply_tile<T, 7, vectors>(depth, a, panel, tile);
      default:
        return multiply_tile<T, 8, vectors>(depth, a, panel, tile);
    }
  }
}

// A narrow last panel needs fewer registers of columns.
template <class T>
void multiply(int64_t rows, int64_t cols, int64_t depth, const Operand<T>& a, const T* panel,
              T* tile) {
  if (cols <= kLanes<T>) return multiply_rows<T, 1>(rows, depth, a, panel, tile);
  if (cols <= 2 * kLanes<T>) return multiply_rows<T, 2>(rows, depth, a, panel, tile);
  multiply_rows<T, 3>(rows, depth, a, panel, tile);
}

// One panel: columns [j, j + kCols) of op(b), rows [p, p + depth), zero-padded.
template <class T>
void pack_panel(const Operand<T>& b, int64_t n, int64_t j, int64_t p, int64_t depth, T* panel) {
  const int64_t cols = std::min(kCols<T>, n - j);
  if (b.col == 1 && cols == kCols<T>) {
    for (int64_t q = 0; q < depth; ++q, panel += kCols<T>) {
      const T* from = b.at(p + q, j);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        simd::store(panel + v * kLanes<T>, simd::load(from + v * kLanes<T>));
      }
    }
    return;
  }
  // Lanes beyond the last column are multiplied too where they share a register with it.
  const int64_t padded = (cols + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  if (b.row == 1) {
    for (int64_t i = 0; i < cols; ++i) {
      const T* from = b.at(p, j + i);
      for (int64_t q = 0; q < depth; ++q) panel[q * kCols<T> + i] = from[q];
    }
    for (int64_t q = 0; cols < padded && q < depth; ++q) {
      std::fill(panel + q * kCols<T> + cols, panel + q * kCols<T> + padded, T(0));
    }
    return;
  }
  for (int64_t q = 0; q < depth; ++q, panel += kCols<T>) {
    std::copy_n(b.at(p + q, j), cols, panel);
    std::fill(panel + cols, panel + padded, T(0));
  }
}

// c[row_begin..row_end) of columns [j, j + kCols) += op(a) x panel, for one block of k.
template <class T>
void multiply_panel(const Operand<T>& a, int64_t row_begin, int64_t row_end, int64_t cols,
                    int64_t p, int64_t depth, const T* panel, const Output<T>& out) {
  alignas(64) T tile[kRows * kCols<T>];
  for (int64_t i = row_begin; i < row_end; i += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, row_end - i);
    multiply<T>(rows, cols, depth, {a.at(i, p), a.row, a.col}, panel, tile);
    write_tile<T, kCols<T>>(tile, rows, cols, out.at(i, 0));
  }
}

// Rows [begin, end) of c from a wholly packed b: panel-major, (panels, k, kCols).
template <class T>
void multiply_packed(const Operand<T>& a, int64_t begin, int64_t end, int64_t n, int64_t k,
                     const T* packed, int64_t panel_begin, int64_t panel_end, T* c, int64_t ldc,
                     GradWrite write, const Epilogue<T>& epilogue, int64_t all_rows) {
  constexpr bool kWholeLines = kCols<T> * sizeof(T) % 64 == 0;  // not those of AVX2
  const bool stream =
      kWholeLines && streams<T>(all_rows, {c, ldc, false, true, epilogue}, k <= kDepth);
  int64_t p = 0;
  do {
    const int64_t depth = std::min(kDepth, k - p);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const int64_t j = panel * kCols<T>;
      const bool add = p > 0 || write == GradWrite::kAccumulate;
      multiply_panel(a, begin, end, std::min(kCols<T>, n - j), p, depth,
                     packed + (panel * k + p) * kCols<T>,
                     Output<T>{c, ldc, add, p + depth >= k, epilogue, stream}.at(0, j));
    }
    p += kDepth;
  } while (p < k);
  if (stream) simd::stream_end();
}

// Rows [begin, end) of op(a) = a^T, `depth` steps of k, one strip of kRows after the other, each
// (depth, kRows): read once here, then again and again from contiguous memory.
template <class T>
void pack_strips(const Operand<T>& a, int64_t begin, int64_t end, int64_t p, int64_t depth,
                 T* strips) {
  for (int64_t i = begin; i < end; i += kRows, strips += depth * kRows) {
    const int64_t rows = std::min<int64_t>(kRows, end - i);
    const T* from = a.at(i, p);
    if (rows == kRows) {
      for (int64_t q = 0; q < depth; ++q) std::copy_n(from + q * a.col, kRows, strips + q * kRows);
    } else {
      for (int64_t q = 0; q < depth; ++q) std::copy_n(from + q * a.col, rows, strips + q * kRows);
    }
  }
}

// Asks for the lines of rows [begin, end) of a block, `width` elements each, before they are
// packed: the strided rows of a weight gradient's operands are beyond what hardware foresees.
template <class T>
void prefetch_rows(const T* block, int64_t stride, int64_t width, int64_t begin, int64_t end) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t i = 0; i < width; i += kLine) __builtin_prefetch(block + r * stride + i, 0, 2);
  }
}

// Takes this thread's memory for multiply_packing() of up to `rows` rows.
template <class T>
void prepare_packing(int64_t rows) {
  workspace<T>(1, kDepth * kCols<T>);
  workspace<T>(2, (rows + kRows - 1) / kRows * kRows * kDepth);
}

// Rows [begin, end) x panels of c = op(a) op(b), packing b (and a transposed a) block by block
// on this thread: for products whose k is long (weight gradients), and for small ones. While one
// panel is multiplied, the next is fetched.
template <class T>
void multiply_packing(const Operand<T>& a, const Operand<T>& b, int64_t begin, int64_t end,
                      int64_t n, int64_t k, int64_t panel_begin, int64_t panel_end, T* c,
                      int64_t ldc, GradWrite write) {
  T* panel_memory = workspace<T>(1, kDepth * kCols<T>);
  const int64_t strips = (end - begin + kRows - 1) / kRows;
  const bool strip = a.row == 1 && panel_end - panel_begin > 1;
  T* strip_memory = strip ? workspace<T>(2, strips * kRows * kDepth) : nullptr;
  alignas(64) T tile[kRows * kCols<T>];
  int64_t p = 0;
  do {
    const int64_t depth = std::min(kDepth, k - p);
    const bool add = p > 0 || write == GradWrite::kAccumulate;
    if (strip) pack_strips(a, begin, end, p, depth, strip_memory);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const int64_t j = panel * kCols<T>, cols = std::min(kCols<T>, n - j);
      pack_panel(b, n, j, p, depth, panel_memory);
      // What comes next: another panel of this block of k, or the next block.
      const bool wrap = panel + 1 == panel_end;
      const int64_t next_j = wrap ? panel_begin * kCols<T> : j + kCols<T>;
      const int64_t next_p = wrap ? p + kDepth : p, next_depth = std::min(kDepth, k - next_p);
      for (int64_t i = begin; i < end; i += kRows) {
        const int64_t rows = std::min<int64_t>(kRows, end - i), s = (i - begin) / kRows;
        if (b.col == 1 && next_depth > 0) {
          prefetch_rows(b.at(next_p, next_j), b.row, std::min(kCols<T>, n - next_j),
                        next_depth * s / strips, next_depth * (s + 1) / strips);
        }
        if (strip && k - p - kDepth > 0) {
          const int64_t ahead = std::min(kDepth, k - p - kDepth);
          const int64_t share = (panel - panel_begin) * strips + s;
          const int64_t shares = (panel_end - panel_begin) * strips;
          prefetch_rows(a.at(begin, p + kDepth), a.col, end - begin, ahead * share / shares,
                        ahead * (share + 1) / shares);
        }
        const Operand<T> strip_a{strip_memory + (i - begin) * depth, 1, kRows};
        const Operand<T> here{a.at(i, p), a.row, a.col};
        multiply<T>(rows, cols, depth, strip ? strip_a : here, panel_memory, tile);
        write_tile<T, kCols<T>>(tile, rows, cols, {c + i * ldc + j, ldc, add, false, {}});
      }
    }
    p += kDepth;
  } while (p < k);
}

// Whether a product is one of gemm_bf16.h.
template <class T>
bool in_bf16(Precision precision) {
  check(precision == Precision::kF32 || std::is_same_v<T, float>, ErrorKind::kDtype,
        "a product in bf16 takes f32, not f64");
  return precision == Precision::kBf16;
}

}  // namespace

template <class T>
void grouped_gemm(Cpu, Trans tb, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                  const T* b, T* c, GradWrite write, const Epilogue<T>& epilogue,
                  Precision precision) {
  if (in_bf16<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return grouped_gemm_bf16(tb, offset, groups, size, a, b, c, write, epilogue);
    }
  }
  const int64_t n = size.n, k = size.k, panels = pieces_of(n, kCols<T>);
  if (size.m == 0 || n == 0) return;
  T* packed = workspace<T>(0, groups * panels * k * kCols<T>);
  const int64_t ldb = tb == Trans::kNo ? n : k;
  parallel_tasks(groups * panels, [&](int64_t t) {
    const int64_t g = t / panels, panel = t % panels;
    if (offset[g] == offset[g + 1]) return;
    pack_panel(operand(tb, b + g * k * n, ldb), n, panel * kCols<T>, 0, k,
               packed + t * k * kCols<T>);
  });
  parallel_tasks(row_blocks_at_most(size.m, groups, kRowBlock), [&](int64_t t) {
    const RowBlock block = row_block(offset, groups, kRowBlock, t);
    if (block.group == groups) return;
    Epilogue<T> e = epilogue;
    if (e.bias != nullptr) e.bias += block.group * n;
    multiply_packed(operand(Trans::kNo, a, k), block.begin, block.end, n, k,
                    packed + block.group * panels * k * kCols<T>, 0, panels, c, n, write, e,
                    size.m);
  });
}

template <class T>
void grouped_gemm_transposed(Cpu, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                             const T* b, T* c, GradWrite write, Precision precision) {
  if (in_bf16<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return grouped_gemm_transposed_bf16(offset, groups, size, a, b, c, write);
    }
  }
  const int64_t m = size.m, n = size.n, panels = pieces_of(n, kCols<T>);
  if (groups == 0 || m == 0 || n == 0) return;
  // Experts are unequal: a few tasks each, whatever the number of threads, keep all busy.
  const TaskCut cut = packing_cut(m, panels, kCols<T>, kRows, kMinRows,
                                  std::max<int64_t>(2, tasks_wanted() / groups));
  const int64_t row_cuts = (m + cut.rows - 1) / cut.rows;
  const int64_t cuts = row_cuts * ((panels + cut.panels - 1) / cut.panels);
  parallel_tasks(
      groups * cuts,
      [&](int64_t t) {
        const int64_t g = t / cuts, rows = offset[g + 1] - offset[g];
        const int64_t begin = t % cuts % row_cuts * cut.rows;
        const int64_t panel_begin = t % cuts / row_cuts * cut.panels;
        multiply_packing(operand(Trans::kYes, a + offset[g] * m, m),
                         operand(Trans::kNo, b + offset[g] * n, n), begin,
                         std::min(m, begin + cut.rows), n, rows, panel_begin,
                         std::min(panels, panel_begin + cut.panels), c + g * m * n, n, write);
      },
      [&] { prepare_packing<T>(cut.rows); });
}

template <class T>
void gemm(Cpu, Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b, int64_t ldb,
          T* c, int64_t ldc, GradWrite write, const Epilogue<T>& epilogue, Precision precision) {
  if (in_bf16<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return gemm_bf16(ta, tb, size, a, lda, b, ldb, c, ldc, write, epilogue);
    }
  }
  const auto [m, n, k] = size;
  if (m == 0 || n == 0) return;
  const Operand<T> a_op = operand(ta, a, lda), b_op = operand(tb, b, ldb);
  const int64_t panels = pieces_of(n, kCols<T>), want = tasks_wanted();
  const bool plain =
      epilogue.bias == nullptr && epilogue.residual == nullptr && epilogue.activated == nullptr;
  const bool packing = ta == Trans::kYes && plain;
  // Row blocks first; columns are cut as well where rows are too few.
  // Weight gradients are one task a thread: equal work, and the least packing.
  const TaskCut cut = packing_cut(m, panels, kCols<T>, kRows, kMinRows, num_threads());
  const int64_t rows_piece = packing ? cut.rows : std::min(kRowBlock, piece_size(m, want, kRows));
  const int64_t row_cuts = (m + rows_piece - 1) / rows_piece;
  const int64_t panel_piece =
      packing ? cut.panels : piece_size(panels, row_cuts >= want ? 1 : want / row_cuts, 1);
  const int64_t panel_cuts = (panels + panel_piece - 1) / panel_piece;
  T* packed = nullptr;
  if (!packing) {
    packed = workspace<T>(0, panels * k * kCols<T>);
    T* const to = packed;
    const int64_t depth = k, cols = n;
    parallel_tasks(panels, [&](int64_t t) {
      pack_panel(b_op, cols, t * kCols<T>, 0, depth, to + t * depth * kCols<T>);
    });
  }
  const int64_t rows = m, cols = n, depth = k;
  parallel_tasks(
      row_cuts * panel_cuts,
      [&](int64_t t) {
        const int64_t begin = t / panel_cuts * rows_piece, end = std::min(rows, begin + rows_piece);
        const int64_t panel_begin = t % panel_cuts * panel_piece;
        const int64_t panel_end = std::min(panels, panel_begin + panel_piece);
        if (packing) {
          multiply_packing(a_op, b_op, begin, end, cols, depth, panel_begin, panel_end, c, ldc,
                           write);
        } else {
          multiply_packed(a_op, begin, end, cols, depth, packed, panel_begin, panel_end, c, ldc,
                          write, epilogue, rows);
        }
      },
      [&] {
        if (packing) prepare_packing<T>(rows_piece);
      });
}

template <class T>
void gemm_serial(Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T* c, int64_t ldc, GradWrite write, Precision precision) {
  if (in_bf16<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return gemm_serial_bf16(ta, tb, size, a, lda, b, ldb, c, ldc, write);
    }
  }
  if (size.m == 0 || size.n == 0) return;
  multiply_packing(operand(ta, a, lda), operand(tb, b, ldb), 0, size.m, size.n, size.k, 0,
                   pieces_of(size.n, kCols<T>), c, ldc, write);
}

template void gemm(Cpu, Trans, Trans, GemmSize, const float*, int64_t, const float*, int64_t,
                   float*, int64_t, GradWrite, const Epilogue<float>&, Precision);
template void gemm_serial(Trans, Trans, GemmSize, const float*, int64_t, const float*, int64_t,
                          float*, int64_t, GradWrite, Precision);
template void grouped_gemm(Cpu, Trans, const int32_t*, int64_t, GemmSize, const float*,
                           const float*, float*, GradWrite, const Epilogue<float>&, Precision);
template void grouped_gemm_transposed(Cpu, const int32_t*, int64_t, GemmSize, const float*,
                                      const float*, float*, GradWrite, Precision);
template void gemm(Cpu, Trans, Trans, GemmSize, const double*, int64_t, const double*, int64_t,
                   double*, int64_t, GradWrite, const Epilogue<double>&, Precision);
template void gemm_serial(Trans, Trans, GemmSize, const double*, int64_t, const double*, int64_t,
                          double*, int64_t, GradWrite, Precision);
template void grouped_gemm(Cpu, Trans, const int32_t*, int64_t, GemmSize, const double*,
                           const double*, double*, GradWrite, const Epilogue<double>&, Precision);
template void grouped_gemm_transposed(Cpu, const int32_t*, int64_t, GemmSize, const double*,
                                      const double*, double*, GradWrite, Precision);

}  // namespace engine::kernels
