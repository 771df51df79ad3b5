#include <algorithm>

#include "engine/core/cuda_workspace.h"
#include "engine/gemm/group_tiles.cuh"
#include "engine/ops/gelu.cuh"
#include "engine/ops/linear_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

// y = f(a, b), kVec neighbouring elements a thread.
template <class T, int kVec, class F>
__global__ void __launch_bounds__(kEachThreads)
    flat_kernel(const T* a, const T* b, T* y, int64_t packs, F f) {
  const int64_t pack = int64_t{blockIdx.x} * kEachThreads + threadIdx.x;
  if (pack >= packs) return;
  const int64_t at = pack * kVec;
  auto x = Pack<Wide<T>, kVec>::load(a + at);
  const auto other = Pack<Wide<T>, kVec>::load(b + at);
#pragma unroll
  for (int i = 0; i < kVec; ++i) x.v[i] = f(x.v[i], other.v[i]);
  x.store(y + at);
}

template <class T, class F>
void launch_flat(Cuda on, const T* a, const T* b, T* y, int64_t count, F f) {
  if (count == 0) return;
  const bool packed = packable<T>(count, a, b, y);
  const int64_t packs = packed ? count / kPack<T> : count;
  launch(on, blocks_for(packs, kEachThreads), kEachThreads,
         packed ? flat_kernel<T, kPack<T>, F> : flat_kernel<T, 1, F>, a, b, y, packs, f);
}

template <class T>
struct GeluSlope {
  GeluForm form;
  __device__ T operator()(T z, T dh) const { return dh * gelu_slope(z, form); }
};
template <class T>
struct Sum {
  __device__ T operator()(T a, T b) const { return a + b; }
};

// Column sums in two stages: of tiles of rows, then of the tiles of each group, in their order.
constexpr int kLanes = 32, kLines = 8;  // of a block: packs of columns, rows at a time
constexpr int64_t kLeastRows = 32;      // of a tile
constexpr int64_t kMostTiles = 256;     // of one group

// The sum over the block's lines, in line 0, in the order of the lines.
template <class T, int kVec>
__device__ Pack<T, kVec> fold_lines(Pack<T, kVec> x) {
  __shared__ Pack<T, kVec> lines[kLines][kLanes];
  lines[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  if (threadIdx.y > 0) return x;
  for (int line = 1; line < kLines; ++line) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) x.v[i] += lines[line][threadIdx.x].v[i];
  }
  return x;
}

// The sum of rows [begin, end), in the threads of line 0.
template <class T, int kVec>
__device__ Pack<Wide<T>, kVec> sum_rows(const T* x, int64_t begin, int64_t end, int64_t column,
                                        int64_t cols) {
  Pack<Wide<T>, kVec> sum{};
  if (column < cols) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kLines) {
      const auto row = Pack<Wide<T>, kVec>::load(x + r * cols + column);
#pragma unroll
      for (int i = 0; i < kVec; ++i) sum.v[i] += row.v[i];
    }
  }
  return fold_lines<Wide<T>, kVec>(sum);
}

// partial[t, c]: sum over the rows of tile t. Tiles of no group are left alone.
template <class T, int kVec>
__global__ void __launch_bounds__(kLanes* kLines)
    tile_sums_kernel(const T* x, GroupRows rows, int64_t size, int64_t cols, Wide<T>* partial) {
  const int64_t strips = (cols + kLanes * kVec - 1) / (kLanes * kVec);
  const int64_t t = blockIdx.x / strips;
  const GroupTile tile = tile_of(rows, size, t);
  if (tile.group == rows.groups || tile.begin >= tile.end) return;
  const int64_t column = (blockIdx.x % strips * kLanes + threadIdx.x) * kVec;
  const auto sum = sum_rows<T, kVec>(x, tile.begin, tile.end, column, cols);
  if (threadIdx.y == 0 && column < cols) sum.store(partial + t * cols + column);
}

// sums[g, c] += partial of the group's tiles.
template <class T, int kVec>
__global__ void __launch_bounds__(kLanes* kLines)
    group_sums_kernel(const T* partial, GroupRows rows, int64_t size, int64_t cols, T* sums) {
  const int64_t strips = (cols + kLanes * kVec - 1) / (kLanes * kVec);
  const int64_t g = blockIdx.x / strips;
  const int64_t column = (blockIdx.x % strips * kLanes + threadIdx.x) * kVec;
  const int64_t count = rows.begin(g + 1) - rows.begin(g);
  if (count <= 0) return;
  const int64_t first = first_tile(rows, size, g), end = first + (count + size - 1) / size;
  const auto sum = sum_rows<T, kVec>(partial, first, end, column, cols);
  if (threadIdx.y == 0 && column < cols) sum.put(sums + g * cols + column, true);
}

}  // namespace

template <class T>
void gelu_backward(Cuda on, const T* z, const T* dh, T* dz, int64_t count, GeluForm form) {
  launch_flat(on, z, dh, dz, count, GeluSlope<Wide<T>>{form});
}

template <class T>
void add_column_sums(Cuda on, const T* x, const int32_t* offset, int64_t groups, RowsCols size,
                     Wide<T>* sums) {
  const int64_t cols = size.cols;
  if (size.rows == 0 || cols == 0 || groups == 0) return;
  const GroupRows rows{offset, groups, size.rows};
  const int64_t tile = std::max(kLeastRows, (size.rows + kMostTiles - 1) / kMostTiles);
  const int64_t tiles = tiles_at_most(rows, tile);
  using Sums = Wide<T>;
  auto* const partial =
      static_cast<Sums*>(cuda_workspace(tiles * cols * static_cast<int64_t>(sizeof(Sums))));
  const auto run = [&]<int kVec>() {
    const int64_t strips = (cols + kLanes * kVec - 1) / (kLanes * kVec);
    const dim3 block(kLanes, kLines);
    launch(on, blocks_for(tiles * strips, 1), block, tile_sums_kernel<T, kVec>, x, rows, tile, cols,
           partial);
    launch(on, blocks_for(groups * strips, 1), block, group_sums_kernel<Sums, kVec>, partial, rows,
           tile, cols, sums);
  };
  packable<T>(cols, x, sums, partial) ? run.template operator()<kPack<T>>()
                                      : run.template operator()<1>();
}

template <class T>
void add_into(Cuda on, const T* x, T* y, int64_t count) {
  launch_flat(on, x, y, y, count, Sum<Wide<T>>{});
}

template void gelu_backward(Cuda, const float*, const float*, float*, int64_t, GeluForm);
template void gelu_backward(Cuda, const double*, const double*, double*, int64_t, GeluForm);
template void gelu_backward(Cuda, const bf16*, const bf16*, bf16*, int64_t, GeluForm);
template void add_column_sums(Cuda, const float*, const int32_t*, int64_t, RowsCols, float*);
template void add_column_sums(Cuda, const double*, const int32_t*, int64_t, RowsCols, double*);
template void add_column_sums(Cuda, const bf16*, const int32_t*, int64_t, RowsCols, float*);
template void add_into(Cuda, const float*, float*, int64_t);
template void add_into(Cuda, const double*, double*, int64_t);
template void add_into(Cuda, const bf16*, bf16*, int64_t);

}  // namespace engine::kernels
