#pragma once

#include "engine/gemm/gemm.h"
#include "engine/ops/gelu.cuh"
#include "engine/ops/warp.cuh"

// A block of threads multiplies one tile of a product. How, says a class Math (simt_tile.cuh,
// mma_tile.cuh); what they share is here: where operands come from and where the tile goes. CUDA
// sources only.
namespace engine::kernels {

inline constexpr int kTileThreads = 256;

// An operand as it is stored, from the tile's first row or column on: `lines` of `length`
// elements, `ld` apart. What is beyond them counts as zeros.
template <class T>
struct Source {
  const T* data;
  int lines, length, ld;

  // Elements at ... at + kPack of a line. kPacked: every line allows 16-byte accesses.
  template <bool kPacked>
  __device__ Pack<T, kPack<T>> load(int line, int at) const {
    Pack<T, kPack<T>> x{};
    if (line >= lines) return x;
    const T* from = data + int64_t{line} * ld + at;
    if constexpr (kPacked) {
      if (at < length) x = Pack<T, kPack<T>>::load(from);
    } else {
#pragma unroll
      for (int e = 0; e < kPack<T>; ++e) {
        if (at + e < length) x.v[e] = from[e];
      }
    }
    return x;
  }
};

// Where the tile goes, from its first element on.
template <class T>
struct Destination {
  T* c;
  int ld, rows, cols;
  bool add;
  Epilogue<T> epilogue;  // pointers at the tile's first element

  template <bool kPacked, int kWidth>
  __device__ void put(int row, int column, const Pack<Wide<T>, kWidth>& x) const {
    if (row >= rows) return;
    if constexpr (kPacked) {
      if (column < cols) put_pack(row, column, x);
    } else {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        if (column + e < cols) put_pack(row, column + e, Pack<Wide<T>, 1>{{x.v[e]}});
      }
    }
  }

 private:
  template <int kWidth>
  __device__ void put_pack(int row, int column, Pack<Wide<T>, kWidth> x) const {
    using Packed = Pack<Wide<T>, kWidth>;
    const int64_t at = int64_t{row} * ld + column;
    const auto plus = [&x](const Packed& other) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) x.v[e] += other.v[e];
    };
    if (epilogue.slope_of != nullptr) {
      const Packed z = Packed::load(epilogue.slope_of + at);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) x.v[e] *= gelu_slope(z.v[e], epilogue.form);
    }
    if (add) plus(Packed::load(c + at));
    if (epilogue.bias != nullptr) plus(Packed::load(epilogue.bias + column));
    if (epilogue.residual != nullptr) plus(Packed::load(epilogue.residual + at));
    x.store(c + at);
    if (epilogue.activated != nullptr) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) x.v[e] = gelu(x.v[e], epilogue.form);
      x.store(epilogue.activated + at);
    }
  }
};

// The tile a b over k < depth, in steps of Math::kDepth: the next step's operands come from memory
// while this one's are multiplied. kAlongA, kAlongB: the operand's stored lines run along k, else
// across it.
template <class Math, bool kAlongA, bool kAlongB, bool kPacked, class T>
__device__ void multiply_tile(Math& math, const Source<T>& a, const Source<T>& b, int depth) {
  using StageA = typename Math::template Stage<kAlongA, kPacked>;
  using StageB = typename Math::template Stage<kAlongB, kPacked>;
  alignas(16) __shared__ typename Math::Word words_a[2][StageA::kWords];
  alignas(16) __shared__ typename Math::Word words_b[2][StageB::kWords];
  if (depth <= 0) return;
  StageA stage_a;
  StageB stage_b;
  stage_a.load(a, 0);
  stage_b.load(b, 0);
  stage_a.store(words_a[0]);
  stage_b.store(words_b[0]);
  __syncthreads();
  int now = 0;
  for (int p = Math::kDepth;; p += Math::kDepth) {
    const bool more = p < depth;
    if (more) {
      stage_a.load(a, p);
      stage_b.load(b, p);
    }
    math.template multiply<StageA, StageB>(words_a[now], words_b[now]);
    if (!more) return;
    now ^= 1;
    stage_a.store(words_a[now]);
    stage_b.store(words_b[now]);
    __syncthreads();
  }
}

}  // namespace engine::kernels
