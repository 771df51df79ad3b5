#pragma once

#include "engine/core/cuda_launch.cuh"

namespace engine {

// The sum of x over the block's earlier threads; `total`: over all of them. Every thread of the
// kThreads takes part. CUDA sources only.
template <int kThreads>
__device__ int32_t block_scan(int32_t x, int32_t* total) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  __shared__ int32_t warps[kThreads / 32];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  int32_t sum = x;  // with the warp's earlier lanes
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int32_t below = __shfl_up_sync(0xffffffffu, sum, static_cast<unsigned>(step));
    if (lane >= step) sum += below;
  }
  __syncthreads();  // an earlier scan may still be reading
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  int32_t before = 0, all = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w == warp) before = all;
    all += warps[w];
  }
  *total = all;
  return before + sum - x;
}

}  // namespace engine
