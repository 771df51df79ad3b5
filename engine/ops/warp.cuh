#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "engine/core/cuda_launch.cuh"
#include "engine/core/precision.h"
#include "engine/core/stored.h"

// What row kernels share: sums over a warp or a block in a fixed order, 16-byte accesses, and rows
// held in registers. CUDA sources only.
namespace engine::kernels {

inline constexpr int kWarp = 32;
inline constexpr int kRowsPerBlock = 4;  // where one warp owns a row
inline constexpr int kBlockWarps = 16;   // where one block owns a row

// Butterflies: both partners add the same two numbers, so every lane gets the same bits.
template <class T>
__device__ T warp_sum(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
template <class T>
__device__ T warp_max(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = max(x, __shfl_xor_sync(0xffffffffu, x, step));
  }
  return x;
}

// The sum or maximum over the kWarps warps that own one row; each thread folds the warps' results
// in the same order. With several warps, the block's x dimension is the row.
template <int kWarps, bool kMax, class T>
__device__ T team_fold(T x) {
  x = kMax ? warp_max(x) : warp_sum(x);
  if constexpr (kWarps > 1) {
    __shared__ T parts[kWarps];
    __syncthreads();  // an earlier fold may still be reading
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = parts[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) x = kMax ? max(x, parts[w]) : x + parts[w];
  }
  return x;
}
template <int kWarps, class T>
__device__ T team_sum(T x) {
  return team_fold<kWarps, false>(x);
}
template <int kWarps, class T>
__device__ T team_max(T x) {
  return team_fold<kWarps, true>(x);
}

// A number of memory as it is computed with.
template <class T>
__device__ Wide<T> wide(T x) {
  if constexpr (std::is_same_v<T, bf16>)
    return to_float(x);
  else
    return x;
}

// a * b + c with one rounding, whatever the compiler contracts elsewhere.
__device__ inline float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return fma(a, b, c); }

// kVec neighbouring elements, read or written as one access (f32 beyond 16 bytes: as several). A
// Pack of f32 may come from and go to bf16 in memory: widened, rounded to nearest even.
template <class T, int kVec>
struct alignas(kVec * sizeof(T) < 16 ? kVec * sizeof(T) : 16) Pack {
  T v[kVec];
  static __device__ Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  template <class S>
  requires(std::is_same_v<S, bf16>&& std::is_same_v<T, float>) static __device__ Pack
      load(const S* from) {
    const auto stored = Pack<bf16, kVec>::load(from);
    Pack out;
#pragma unroll
    for (int i = 0; i < kVec; ++i) out.v[i] = to_float(stored.v[i]);
    return out;
  }
  __device__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
  template <class S>
  requires(std::is_same_v<S, bf16>&& std::is_same_v<T, float>) __device__ void store(S* to) const {
    Pack<bf16, kVec> out;
#pragma unroll
    for (int i = 0; i < kVec; ++i) out.v[i] = to_bf16(v[i]);
    out.store(to);
  }
  template <class S>
  __device__ void put(S* to, bool add) const {
    Pack out = *this;
    if (add) {
      const Pack old = load(to);
#pragma unroll
      for (int i = 0; i < kVec; ++i) out.v[i] += old.v[i];
    }
    out.store(to);
  }
};
template <class T>
inline constexpr int kPack = static_cast<int>(16 / sizeof(T));

// True when rows of `cols` elements and every base pointer allow 16-byte accesses.
template <class T, class... Pointers>
bool packable(int64_t cols, const Pointers*... bases) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  return cols % kPack<T> == 0 && (aligned(bases) && ...);
}

// How a row of at most kCapacity elements is spread over the registers of its kWarps warps: each
// lane holds kSteps packs. A kernel indexes its arrays by `step`, a constant once unrolled.
template <class T, int kTeamWarps, int kTeamVec, int kPerLane>
struct RowLayout {
  using Value = T;
  using Packed = Pack<T, kTeamVec>;
  static constexpr int kWarps = kTeamWarps, kVec = kTeamVec, kSteps = kPerLane / kTeamVec;
  static constexpr int kRows = kWarps == 1 ? kRowsPerBlock : 1;  // of one block
  static constexpr int kThreads = kWarps * kWarp * kRows;
  static constexpr int64_t kCapacity = int64_t{kWarps} * kWarp * kPerLane;

  static __device__ int64_t row() { return int64_t{blockIdx.x} * kRows + threadIdx.y; }
  // Calls f(step, column of the pack's first element) for this lane's packs of the row.
  template <class F>
  static __device__ void each(int64_t cols, F&& f) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int64_t column = (int64_t{step} * kWarps * kWarp + threadIdx.x) * kVec;
      if (column < cols) f(step, column);
    }
  }
  static dim3 block() { return dim3(kWarps * kWarp, kRows); }
  static dim3 grid(int64_t rows);
};

template <class T, int kTeamWarps, int kTeamVec, int kPerLane>
dim3 RowLayout<T, kTeamWarps, kTeamVec, kPerLane>::grid(int64_t rows) {
  return dim3(blocks_for(rows, kRows));
}

// Calls launch.operator()<Layout>() with the smallest layout that holds a row: a warp a row up to
// 4 KiB, then a block a row up to 64 KiB. False, and no call, for longer rows: those are read again
// from memory in each pass (they mostly come from L2).
template <class T, class Launch>
bool with_row_layout(int64_t cols, bool packed, Launch&& launch) {
  constexpr int kShort = static_cast<int>(32 / sizeof(T));
  constexpr int kLong = static_cast<int>(128 / sizeof(T));
  const auto with_vec = [&]<int kVec>() {
    if (cols <= RowLayout<T, 1, kVec, kShort>::kCapacity) {
      launch.template operator()<RowLayout<T, 1, kVec, kShort>>();
    } else if (cols <= RowLayout<T, 1, kVec, kLong>::kCapacity) {
      launch.template operator()<RowLayout<T, 1, kVec, kLong>>();
    } else if (cols <= RowLayout<T, kBlockWarps, kVec, kLong>::kCapacity) {
      launch.template operator()<RowLayout<T, kBlockWarps, kVec, kLong>>();
    } else {
      return false;
    }
    return true;
  };
  return packed ? with_vec.template operator()<kPack<T>>() : with_vec.template operator()<1>();
}

}  // namespace engine::kernels
