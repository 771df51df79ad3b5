#include "engine/gemm/f32_tiles.h"

// Compiled for AVX-512 whatever the rest of the program is compiled for: nothing inline of other
// headers may be used here, since the linker might take this file's copy for all.
#ifdef ROBUSTMOE_AVX512  // by CMakeLists.txt, with the compiler's flags

#include <immintrin.h>

namespace engine::kernels {
namespace {

// 24 registers of sums, three of the panel and one of op(a): of 32 there are four to spare. The
// eight rows share each load of the panel, so that two loads a cycle feed two multiply-adds.
template <int rows, int vectors>
void multiply_rows(int64_t depth, const float* a, int64_t row, int64_t col, const float* panel,
                   float* tile, int64_t stride, const float* ahead, int64_t ahead_stride) {
  __m512 sum[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  const auto step = [&] {
    __m512 b[vectors];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) b[v] = _mm512_loadu_ps(panel + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m512 x = _mm512_set1_ps(a[r * row]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) sum[r][v] = _mm512_fmadd_ps(x, b[v], sum[r][v]);
    }
    a += col;
    panel += kAvx512Cols;
  };
  int64_t p = 0;
  for (; p + kStepsALine <= depth; p += kStepsALine, ahead += ahead_stride) {
    __builtin_prefetch(ahead);
#pragma GCC unroll 4
    for (int s = 0; s < kStepsALine; ++s) step();
  }
  for (; p < depth; ++p) step();
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      _mm512_storeu_ps(tile + r * stride + 16 * v, sum[r][v]);
    }
  }
}

template <int vectors>
void multiply_vectors(int64_t rows, int64_t depth, const float* a, int64_t row, int64_t col,
                      const float* panel, float* tile, int64_t stride, const float* ahead,
                      int64_t ahead_stride) {
  switch (rows) {
    case 1:
      return multiply_rows<1, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    case 2:
      return multiply_rows<2, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    case 3:
      return multiply_rows<3, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    case 4:
      return multiply_rows<4, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    case 5:
      return multiply_rows<5, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    case 6:
      return multiply_rows<6, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    case 7:
      return multiply_rows<7, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
    default:
      return multiply_rows<8, vectors>(depth, a, row, col, panel, tile, stride, ahead,
                                       ahead_stride);
  }
}

void multiply(int64_t rows, int64_t cols, int64_t depth, const float* a, int64_t row, int64_t col,
              const float* panel, float* tile, int64_t stride, const float* ahead,
              int64_t ahead_stride) {
  if (cols <= 16)
    return multiply_vectors<1>(rows, depth, a, row, col, panel, tile, stride, ahead, ahead_stride);
  if (cols <= 32)
    return multiply_vectors<2>(rows, depth, a, row, col, panel, tile, stride, ahead, ahead_stride);
  multiply_vectors<3>(rows, depth, a, row, col, panel, tile, stride, ahead, ahead_stride);
}

}  // namespace

MultiplyTile f32_tile_avx512() { return multiply; }

}  // namespace engine::kernels

#else

namespace engine::kernels {
MultiplyTile f32_tile_avx512() { return nullptr; }
}  // namespace engine::kernels

#endif
