#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/core/cuda_launch.cuh"
#include "engine/core/cuda_workspace.h"

// Long sums in f64, in an order that follows from the sizes alone. CUDA sources only. Both helpers
// take cuda_workspace(): a caller must not hold it across them.
namespace nn::kernels {

inline constexpr int64_t kTotalChunk = 8 * engine::kEachThreads;

// put(sum over i in [0, n) of value(i)), put once: partial sums of kTotalChunk, then their sum.
// Neighbouring i should touch neighbouring memory.
template <class Value, class Put>
void launch_total(engine::Cuda on, int64_t n, const Value& value, const Put& put) {
  const int64_t chunks = std::max<int64_t>(1, (n + kTotalChunk - 1) / kTotalChunk);
  auto* parts = static_cast<double*>(engine::cuda_workspace(chunks * int64_t{sizeof(double)}));
  engine::launch_sums<double>(
      on, chunks, kTotalChunk,
      [=] __device__(int64_t chunk, int64_t i) -> double {
        const int64_t at = chunk * kTotalChunk + i;
        return at < n ? value(at) : 0.0;
      },
      [=] __device__(int64_t chunk, double sum) { parts[chunk] = sum; });
  engine::launch_sums<double>(
      on, 1, chunks, [=] __device__(int64_t, int64_t i) -> double { return parts[i]; },
      [=] __device__(int64_t, double sum) { put(sum); });
}

inline constexpr int kColumnTile = 32, kColumnTeams = 8;

// put(g * cols + c, sum over the chunks in order of parts[(g * chunks + chunk) * cols + c]): 32
// columns a block, each team of it every eighth chunk, then the teams in order.
template <class Put>
__global__ void __launch_bounds__(kColumnTile* kColumnTeams)
    column_totals_kernel(const double* parts, int64_t chunks, int64_t cols, Put put) {
  __shared__ double sums[kColumnTeams][kColumnTile];
  const int64_t tiles = (cols + kColumnTile - 1) / kColumnTile;
  const int64_t g = blockIdx.x / tiles, c = blockIdx.x % tiles * kColumnTile + threadIdx.x;
  double sum = 0;
  for (int64_t chunk = threadIdx.y; c < cols && chunk < chunks; chunk += kColumnTeams) {
    sum += parts[(g * chunks + chunk) * cols + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  for (int team = 1; team < kColumnTeams; ++team) sum += sums[team][threadIdx.x];
  put(g * cols + c, sum);
}

// Into how many chunks the n terms of a column are cut: 32 terms or more each, within 16 MiB.
inline int64_t column_chunks(int64_t groups, int64_t n, int64_t cols) {
  const int64_t room = std::max<int64_t>(1, (int64_t{1} << 21) / (groups * cols));
  return std::clamp<int64_t>((n + 31) / 32, 1, std::min<int64_t>(512, room));
}

// put(g * cols + c, sum over t in [0, n) of value(g, t, c)) for every group g and column c.
// Neighbouring c should touch neighbouring memory.
template <class Value, class Put>
void launch_column_sums(engine::Cuda on, int64_t groups, int64_t n, int64_t cols,
                        const Value& value, const Put& put) {
  if (groups <= 0 || cols <= 0) return;  // a grid of 0 blocks is a launch error
  const int64_t chunks = column_chunks(groups, n, cols);
  auto* parts = static_cast<double*>(
      engine::cuda_workspace(groups * chunks * cols * int64_t{sizeof(double)}));
  engine::launch_each(on, groups * chunks * cols, [=] __device__(int64_t i) {
    const int64_t c = i % cols, part = i / cols, g = part / chunks, chunk = part % chunks;
    double sum = 0;
    for (int64_t t = n * chunk / chunks; t < n * (chunk + 1) / chunks; ++t) sum += value(g, t, c);
    parts[i] = sum;
  });
  const int64_t tiles = (cols + kColumnTile - 1) / kColumnTile;
  engine::launch(on, engine::blocks_for(groups * tiles, 1), dim3(kColumnTile, kColumnTeams),
                 column_totals_kernel<Put>, parts, chunks, cols, put);
}

}  // namespace nn::kernels
