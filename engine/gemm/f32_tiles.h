#pragma once

#include <cstdint>

// The innermost part of products in f32 on machines with AVX-512, chosen at run time.
namespace engine::kernels {

inline constexpr int kAvx512Rows = 8;
inline constexpr int64_t kAvx512Cols = 48;

// tile (rows, 48), rows `stride` apart, = op(a) (rows, depth) times panel (depth, 48), rows <= 8,
// where op(a)(i, p) is a[i * row + p * col]. Only the first `cols` columns are needed; those up to
// the next multiple of 16 are written. Each element is one chain of fused multiply-adds over
// increasing p, from zero. While it goes on, the lines at ahead, ahead + ahead_stride, ... are
// fetched from memory, one every kStepsALine steps.
using MultiplyTile = void (*)(int64_t rows, int64_t cols, int64_t depth, const float* a,
                              int64_t row, int64_t col, const float* panel, float* tile,
                              int64_t stride, const float* ahead, int64_t ahead_stride);
inline constexpr int64_t kStepsALine = 4;

// Null where the compiler does not know AVX-512. What it returns may be called only where
// usable_isa() says so.
MultiplyTile f32_tile_avx512();

}  // namespace engine::kernels
