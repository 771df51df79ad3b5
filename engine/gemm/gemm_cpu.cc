#include "engine/gemm/gemm.h"

#include <algorithm>
#include <type_traits>

#include "engine/core/parallel.h"
#include "engine/core/workspace.h"
#include "engine/gemm/bf16_tiles.h"
#include "engine/gemm/blocked_product.h"
#include "engine/gemm/gemm_bf16.h"
#include "engine/gemm/tile_choice.h"

namespace engine::kernels {
namespace {

// Whether a product is one of gemm_bf16.h: where there are tiles for it.
template <class T>
bool in_bf16_tiles(Precision precision) {
  check(precision == Precision::kF32 || std::is_same_v<T, float>, ErrorKind::kDtype,
        "a product in bf16 takes f32, not f64");
  check(precision != Precision::kTf32, ErrorKind::kDevice, "tf32 is for CUDA devices");
  return precision == Precision::kBf16 && bf16_tiles() != nullptr;
}

template <class T, class Tile>
void grouped_product(Trans tb, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                     const T* b, T* c, GradWrite write, const Epilogue<T>& epilogue) {
  const int64_t n = size.n, k = size.k, panels = pieces_of(n, Tile::kCols);
  if (size.m == 0 || n == 0) return;
  T* packed = workspace<T>(0, groups * panels * k * Tile::kCols);
  const int64_t ldb = tb == Trans::kNo ? n : k;
  parallel_tasks(groups * panels, [&](int64_t t) {
    const int64_t g = t / panels, panel = t % panels;
    if (offset[g] == offset[g + 1]) return;
    pack_panel<T, Tile>(operand(tb, b + g * k * n, ldb), n, panel * Tile::kCols, 0, k,
                        packed + t * k * Tile::kCols);
  });
  parallel_tasks(row_blocks_at_most(size.m, groups, kRowBlock), [&](int64_t t) {
    const RowBlock block = row_block(offset, groups, kRowBlock, t);
    if (block.group == groups) return;
    Epilogue<T> e = epilogue;
    if (e.bias != nullptr) e.bias += block.group * n;
    multiply_packed<T, Tile>(operand(Trans::kNo, a, k), block.begin, block.end, n, k,
                             packed + block.group * panels * k * Tile::kCols, 0, panels, c, n,
                             write, e, size.m);
  });
}

template <class T, class Tile>
void grouped_transposed_product(const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                                const T* b, T* c, GradWrite write) {
  const int64_t m = size.m, n = size.n, panels = pieces_of(n, Tile::kCols);
  if (groups == 0 || m == 0 || n == 0) return;
  // Experts are unequal: a few tasks each, whatever the number of threads, keep all busy.
  const TaskCut cut = packing_cut(m, panels, Tile::kCols, Tile::kRows, kMinRows,
                                  std::max<int64_t>(2, tasks_wanted() / groups));
  const int64_t row_cuts = (m + cut.rows - 1) / cut.rows;
  const int64_t cuts = row_cuts * ((panels + cut.panels - 1) / cut.panels);
  parallel_tasks(
      groups * cuts,
      [&](int64_t t) {
        const int64_t g = t / cuts, rows = offset[g + 1] - offset[g];
        const int64_t begin = t % cuts % row_cuts * cut.rows;
        const int64_t panel_begin = t % cuts / row_cuts * cut.panels;
        multiply_packing<T, Tile>(
            operand(Trans::kYes, a + offset[g] * m, m), operand(Trans::kNo, b + offset[g] * n, n),
            begin, std::min(m, begin + cut.rows), n, rows, panel_begin,
            std::min(panels, panel_begin + cut.panels), c + g * m * n, n, write);
      },
      [&] { prepare_packing<T, Tile>(cut.panels); });
}

template <class T, class Tile>
void product(Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b, int64_t ldb,
             T* c, int64_t ldc, GradWrite write, const Epilogue<T>& epilogue) {
  const auto [m, n, k] = size;
  if (m == 0 || n == 0) return;
  const Operand<T> a_op = operand(ta, a, lda), b_op = operand(tb, b, ldb);
  const bool plain =
      epilogue.bias == nullptr && epilogue.residual == nullptr && epilogue.activated == nullptr;
  const bool packing = ta == Trans::kYes && plain;
  const int64_t panels = pieces_of(n, Tile::kCols), rows = m, cols = n, depth = k;
  if (packing) {
    // Weight gradients are one task a thread: equal work, and the least packing.
    const TaskCut cut = packing_cut(m, panels, Tile::kCols, Tile::kRows, kMinRows, num_threads());
    const int64_t panel_cuts = pieces_of(panels, cut.panels);
    return parallel_tasks(
        pieces_of(m, cut.rows) * panel_cuts,
        [&](int64_t t) {
          const int64_t begin = t / panel_cuts * cut.rows, first = t % panel_cuts * cut.panels;
          multiply_packing<T, Tile>(a_op, b_op, begin, std::min(rows, begin + cut.rows), cols,
                                    depth, first, std::min(panels, first + cut.panels), c, ldc,
                                    write);
        },
        [&] { prepare_packing<T, Tile>(cut.panels); });
  }
  // Threads cost some microseconds: less than a million operations take no longer on one.
  const bool small = m * n * k < int64_t{1} << 19;
  const int64_t want = small ? 1 : tasks_wanted();
  // Few rows are not cut: a task then packs the columns that it alone multiplies.
  const bool packs_own = small || (m <= kFewRows && panels >= 2 * num_threads());
  // Row blocks first; columns are cut as well where rows are too few.
  const int64_t rows_piece = packs_own ? m : std::min(kRowBlock, piece_size(m, want, Tile::kRows));
  const int64_t row_cuts = pieces_of(m, rows_piece);
  const int64_t panel_piece = piece_size(panels, row_cuts >= want ? 1 : want / row_cuts, 1);
  const int64_t panel_cuts = pieces_of(panels, panel_piece);
  T* const packed = workspace<T>(0, panels * k * Tile::kCols);
  const auto pack = [=](int64_t panel) {
    pack_panel<T, Tile>(b_op, cols, panel * Tile::kCols, 0, depth,
                        packed + panel * depth * Tile::kCols);
  };
  if (!packs_own) parallel_tasks(panels, pack);
  parallel_tasks(row_cuts * panel_cuts, [&](int64_t t) {
    const int64_t begin = t / panel_cuts * rows_piece, first = t % panel_cuts * panel_piece;
    const int64_t last = std::min(panels, first + panel_piece);
    for (int64_t panel = first; packs_own && panel < last; ++panel) pack(panel);
    multiply_packed<T, Tile>(a_op, begin, std::min(rows, begin + rows_piece), cols, depth, packed,
                             first, last, c, ldc, write, epilogue, rows);
  });
}

}  // namespace

template <class T>
void grouped_gemm(Cpu, Trans tb, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                  const T* b, T* c, GradWrite write, const Epilogue<T>& epilogue,
                  Precision precision) {
  if (in_bf16_tiles<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return grouped_gemm_bf16(tb, offset, groups, size, a, b, c, write, epilogue);
    }
  }
  with_tile<T>(precision, [&]<class Tile>(Tile) {
    grouped_product<T, Tile>(tb, offset, groups, size, a, b, c, write, epilogue);
  });
}

template <class T>
void grouped_gemm_transposed(Cpu, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                             const T* b, T* c, GradWrite write, Precision precision) {
  if (in_bf16_tiles<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return grouped_gemm_transposed_bf16(offset, groups, size, a, b, c, write);
    }
  }
  with_tile<T>(precision, [&]<class Tile>(Tile) {
    grouped_transposed_product<T, Tile>(offset, groups, size, a, b, c, write);
  });
}

template <class T>
void gemm(Cpu, Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b, int64_t ldb,
          T* c, int64_t ldc, GradWrite write, const Epilogue<T>& epilogue, Precision precision) {
  if (in_bf16_tiles<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return gemm_bf16(ta, tb, size, a, lda, b, ldb, c, ldc, write, epilogue);
    }
  }
  with_tile<T>(precision, [&]<class Tile>(Tile) {
    product<T, Tile>(ta, tb, size, a, lda, b, ldb, c, ldc, write, epilogue);
  });
}

template <class T>
void gemm_serial(Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T* c, int64_t ldc, GradWrite write, Precision precision) {
  if (in_bf16_tiles<T>(precision)) {
    if constexpr (std::is_same_v<T, float>) {
      return gemm_serial_bf16(ta, tb, size, a, lda, b, ldb, c, ldc, write);
    }
  }
  if (size.m == 0 || size.n == 0) return;
  with_tile<T>(precision, [&]<class Tile>(Tile) {
    multiply_packing<T, Tile>(operand(ta, a, lda), operand(tb, b, ldb), 0, size.m, size.n, size.k,
                              0, pieces_of(size.n, Tile::kCols), c, ldc, write);
  });
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
