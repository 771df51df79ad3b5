#pragma once

#include <algorithm>

#include "engine/core/cuda_workspace.h"
#include "engine/ops/warp.cuh"

// What kernels over the columns of (rows, cols) share: numbers of a column are read once and used
// for many rows, sums over rows are cut by the shape alone and added in order. CUDA sources only.
namespace engine::kernels {

inline constexpr int kColumnThreads = 256;

// The rows [begin, end) of a chunk.
struct ChunkRows {
  int64_t begin, end;
  __device__ int64_t count() const { return end - begin; }
};
__device__ inline ChunkRows chunk_rows(int64_t rows, int64_t chunks, int64_t chunk) {
  return {rows * chunk / chunks, rows * (chunk + 1) / chunks};
}

// A block is a chunk of rows of up to 32 neighbouring packs of columns: threads with the same x own
// the same columns, and each takes every blockDim.y-th row.
struct ColumnCut {
  dim3 grid, block;
  int64_t chunks;
};
// At most `most_chunks`, each of kColumnThreads / block.x threads along rows or more that have
// `rows_each` rows or more.
inline ColumnCut cut_columns(RowsCols size, int vec, int64_t rows_each, int64_t most_chunks) {
  const int64_t packs = size.cols / vec;
  unsigned across = 8;
  while (across < kWarp && across < packs) across *= 2;
  const unsigned down = kColumnThreads / across;
  const unsigned beside = blocks_for(packs, across);
  const int64_t wanted = (size.rows + down * rows_each - 1) / (down * rows_each);
  const int64_t chunks = std::clamp(wanted, int64_t{1}, most_chunks);
  return {dim3(beside, static_cast<unsigned>(chunks)), dim3(across, down), chunks};
}

// Calls columns.at(first column) once a thread, and .row(first element) on what it returns for each
// of the thread's rows.
template <int kVec, class F>
__global__ void __launch_bounds__(kColumnThreads) column_rows_kernel(RowsCols size, F columns) {
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kVec;
  if (column >= size.cols) return;
  const auto lane = columns.at(column);
  const ChunkRows range = chunk_rows(size.rows, gridDim.y, blockIdx.y);
#pragma unroll 4
  for (int64_t r = range.begin + threadIdx.y; r < range.end; r += blockDim.y) {
    lane.row(r * size.cols + column);
  }
}

// `columns` does one row of one pack of columns after the other, each on its own.
template <int kVec, class F>
void launch_columns(Cuda on, RowsCols size, const F& columns) {
  if (size.numel() == 0) return;
  const ColumnCut cut = cut_columns(size, kVec, 8, 65535);
  launch(on, cut.grid, cut.block, column_rows_kernel<kVec, F>, size, columns);
}

// partial (chunks, kSums, cols); lane.row(element, sums) adds what a row has.
template <class T, int kVec, int kSums, class F>
__global__ void __launch_bounds__(kColumnThreads)
    column_sums_kernel(T* partial, RowsCols size, F columns) {
  __shared__ T parts[kSums][kColumnThreads * kVec];
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kVec;
  const int width = static_cast<int>(blockDim.x) * kVec;  // columns of this block
  Pack<T, kVec> sums[kSums] = {};
  if (column < size.cols) {
    const auto lane = columns.at(column);
    const ChunkRows range = chunk_rows(size.rows, gridDim.y, blockIdx.y);
#pragma unroll 4
    for (int64_t r = range.begin + threadIdx.y; r < range.end; r += blockDim.y) {
      lane.row(r * size.cols + column, sums);
    }
  }
  for (int s = 0; s < kSums; ++s) {
    for (int i = 0; i < kVec; ++i) {
      parts[s][threadIdx.y * width + threadIdx.x * kVec + i] = sums[s].v[i];
    }
  }
  __syncthreads();
  const int64_t first = int64_t{blockIdx.x} * width;
  for (int j = threadIdx.y * blockDim.x + threadIdx.x; j < kSums * width; j += kColumnThreads) {
    const int s = j / width, c = j % width;
    if (first + c >= size.cols) continue;
    T total = parts[s][c];
    for (unsigned y = 1; y < blockDim.y; ++y) total += parts[s][y * width + c];
    partial[(int64_t{blockIdx.y} * kSums + s) * size.cols + first + c] = total;
  }
}

inline constexpr int kFoldLanes = 8;

// to[i] (+)= the sum over chunks of partial[chunk, i], i < n: lane y of a column takes every
// kFoldLanes-th chunk, lanes are added in order.
template <class T>
__global__ void __launch_bounds__(kWarp* kFoldLanes)
    fold_chunks_kernel(const T* partial, int64_t chunks, int64_t n, T* to, bool add) {
  __shared__ T parts[kFoldLanes][kWarp];
  const int64_t i = int64_t{blockIdx.x} * kWarp + threadIdx.x;
  T sum = 0;
  if (i < n) {
    for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += kFoldLanes) {
      sum += partial[chunk * n + i];
    }
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || i >= n) return;
  for (int y = 1; y < kFoldLanes; ++y) sum += parts[y][threadIdx.x];
  to[i] = add ? to[i] + sum : sum;
}

inline constexpr int64_t kMostSumBlocks = 1024;  // of sums over rows, beside and below each other
inline constexpr int64_t kMostSumChunks = 256;
inline int64_t most_sum_chunks(int64_t packs) {
  const int64_t beside = (packs + kWarp - 1) / kWarp;
  return std::clamp(kMostSumBlocks / std::max<int64_t>(1, beside), int64_t{1}, kMostSumChunks);
}

// to (kSums, cols) (+)= the sums over all rows. Takes the workspace.
template <int kVec, int kSums, class T, class F>
void launch_column_sums(Cuda on, RowsCols size, const F& columns, T* to, bool add) {
  if (size.cols == 0) return;
  const ColumnCut cut = cut_columns(size, kVec, 8, most_sum_chunks(size.cols / kVec));
  const int64_t n = kSums * size.cols;
  T* partial = static_cast<T*>(cuda_workspace(cut.chunks * n * static_cast<int64_t>(sizeof(T))));
  launch(on, cut.grid, cut.block, column_sums_kernel<T, kVec, kSums, F>, partial, size, columns);
  launch(on, blocks_for(n, kWarp), dim3(kWarp, kFoldLanes), fold_chunks_kernel<T>, partial,
         cut.chunks, n, to, add);
}

}  // namespace engine::kernels
