#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "engine/core/backend.h"
#include "engine/core/cuda_check.h"

// How every kernel of ours is started, and the two shapes that most of them have: one thread an
// element, one block a sum. CUDA sources only.
namespace engine {

// Puts kernel(args...) on the backend's stream. Error(kCuda) where it cannot start.
template <class... Params, class... Args>
void launch(Cuda on, dim3 grid, dim3 block, void (*kernel)(Params...), Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = on.stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...));
}

// Blocks for n items, `per_block` each; n > 0. Error(kShape) beyond the largest grid.
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  check(blocks <= INT32_MAX, ErrorKind::kShape, n, " rows are too many for one launch");
  return static_cast<unsigned>(blocks);
}

inline constexpr int kEachThreads = 256;

template <class F>
__global__ void __launch_bounds__(kEachThreads) each_kernel(int64_t n, F f) {
  const int64_t i = int64_t{blockIdx.x} * kEachThreads + threadIdx.x;
  if (i < n) f(i);
}

// f(i) for i in [0, n), one thread each; f is a device lambda that captures values and pointers of
// the device. Neighbouring i should touch neighbouring memory.
template <class F>
void launch_each(Cuda on, int64_t n, const F& f) {
  if (n <= 0) return;  // a grid of 0 blocks is a launch error
  launch(on, blocks_for(n, kEachThreads), kEachThreads, each_kernel<F>, n, f);
}

// The sum of x over the block's kThreads threads, in every thread; the order of additions is that
// of the threads' numbers by powers of two and never depends on timing.
template <int kThreads, class T>
__device__ T block_sum(T x) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  __shared__ T parts[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  __syncthreads();  // an earlier sum may still be reading
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
  for (int w = 1; w < kThreads / 32; ++w) x += parts[w];
  return x;
}

template <class Sum, class Value, class Put>
__global__ void __launch_bounds__(kEachThreads) sums_kernel(int64_t n, Value value, Put put) {
  const int64_t j = blockIdx.x;
  Sum sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kEachThreads) sum += value(j, i);
  sum = block_sum<kEachThreads>(sum);
  if (threadIdx.x == 0) put(j, sum);
}

// put(j, sum over i in [0, n) of value(j, i)) for j in [0, m): a block a sum, in a fixed order.
// Neighbouring i should touch neighbouring memory. Sum: f32 or f64.
template <class Sum, class Value, class Put>
void launch_sums(Cuda on, int64_t m, int64_t n, const Value& value, const Put& put) {
  if (m <= 0) return;
  launch(on, blocks_for(m, 1), kEachThreads, sums_kernel<Sum, Value, Put>, n, value, put);
}

}  // namespace engine
