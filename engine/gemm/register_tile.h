#pragma once

#include <cstdint>

#include "engine/core/simd.h"
#include "engine/gemm/f32_tiles.h"
#include "engine/gemm/task_cut.h"

// The part of a product that stays in registers, in two forms with the same interface and the same
// bits. Include it in *_cpu.cc files only.
namespace engine::kernels {

// Lines to be fetched from memory meanwhile: one every kStepsALine steps of k.
template <class T>
struct Ahead {
  const T* first;
  int64_t stride;
};

// For the machine that the program is compiled for. A tile is kRows rows by three vector registers
// of columns: 24 + 3 + 1 of the 32 registers of AVX-512, 12 + 3 + 1 of AVX2's 16.
template <class T>
struct BaseTile {
  static constexpr int kRows = simd::kLanes<float> >= 16 ? 8 : 4;
  static constexpr int kVectors = 3;
  static constexpr int64_t kCols = kVectors * simd::kLanes<T>;
  static constexpr bool kRounds = false;

  // tile (rows, kCols), rows `stride` apart, = op(a)[0..rows) x panel over `depth` steps of k, its
  // first `vectors` registers of columns. Each element is one chain of fma over increasing k: the
  // row guarantee lives in this loop.
  template <int rows, int vectors>
  static void multiply_block(int64_t depth, const Operand<T>& a, const T* panel, T* tile,
                             int64_t stride, Ahead<T> ahead) {
    constexpr int kLanes = simd::kLanes<T>;
    simd::Packet<T> acc[rows][vectors];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) acc[r][v] = simd::set(T(0));
    }
    const T* at = a.data;
    for (int64_t p = 0; p < depth; ++p, at += a.col, panel += kCols) {
      if (p % kStepsALine == 0) {
        __builtin_prefetch(ahead.first);
        ahead.first += ahead.stride;
      }
      simd::Packet<T> b[vectors];
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) b[v] = simd::load(panel + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        const simd::Packet<T> x = simd::set(at[r * a.row]);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; ++v) acc[r][v] = simd::fma(x, b[v], acc[r][v]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) simd::store(tile + r * stride + v * kLanes, acc[r][v]);
    }
  }

  template <int vectors>
  static void multiply_rows(int64_t rows, int64_t depth, const Operand<T>& a, const T* panel,
                            T* tile, int64_t stride, Ahead<T> ahead) {
    switch (rows) {
      case 1:
        return multiply_block<1, vectors>(depth, a, panel, tile, stride, ahead);
      case 2:
        return multiply_block<2, vectors>(depth, a, panel, tile, stride, ahead);
      case 3:
        return multiply_block<3, vectors>(depth, a, panel, tile, stride, ahead);
      case 4:
        return multiply_block<4, vectors>(depth, a, panel, tile, stride, ahead);
      default:
        break;
    }
    if constexpr (kRows == 8) {
      switch (rows) {
        case 5:
          return multiply_block<5, vectors>(depth, a, panel, tile, stride, ahead);
        case 6:
          return multiply_block<6, vectors>(depth, a, panel, tile, stride, ahead);
        case 7:
          return multiply_block<7, vectors>(depth, a, panel, tile, stride, ahead);
        default:
          return multiply_block<8, vectors>(depth, a, panel, tile, stride, ahead);
      }
    }
  }

  // A narrow last panel needs fewer registers of columns.
  static void multiply(int64_t rows, int64_t cols, int64_t depth, const Operand<T>& a,
                       const T* panel, T* tile, int64_t stride, Ahead<T> ahead) {
    if (cols <= simd::kLanes<T>)
      return multiply_rows<1>(rows, depth, a, panel, tile, stride, ahead);
    if (cols <= 2 * simd::kLanes<T>)
      return multiply_rows<2>(rows, depth, a, panel, tile, stride, ahead);
    multiply_rows<3>(rows, depth, a, panel, tile, stride, ahead);
  }
};

// f32 with AVX-512, whatever the program is compiled for.
struct Avx512Tile {
  static constexpr int kRows = kAvx512Rows;
  static constexpr int64_t kCols = kAvx512Cols;
  static constexpr bool kRounds = false;

  static void multiply(int64_t rows, int64_t cols, int64_t depth, const Operand<float>& a,
                       const float* panel, float* tile, int64_t stride, Ahead<float> ahead) {
    static const MultiplyTile function = f32_tile_avx512();
    function(rows, cols, depth, a.data, a.row, a.col, panel, tile, stride, ahead.first,
             ahead.stride);
  }
};

// Either of them for products in bf16 where no instruction multiplies bf16 faster: drivers round
// the operands while they pack them, so that the products of elements are exact in f32.
template <class Tile>
struct Rounding : Tile {
  static constexpr bool kRounds = true;
};

}  // namespace engine::kernels
