#include "engine/ops/batched_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

constexpr int kTile = 32, kTileRows = 8;

// One block a tile of 32 x 32, so that both sides are walked along their rows; the odd row length
// keeps a column of the tile in different banks.
template <class T>
__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_kernel(const T* x, T* y, RowsCols size, bool add) {
  __shared__ T tile[kTile][kTile + 1];
  const int64_t down = (size.rows + kTile - 1) / kTile, across = (size.cols + kTile - 1) / kTile;
  const int64_t b = blockIdx.x / (down * across), place = blockIdx.x % (down * across);
  const int64_t row = place / across * kTile, col = place % across * kTile;
  x += b * size.rows * size.cols;
  y += b * size.rows * size.cols;
  for (int i = threadIdx.y; i < kTile; i += kTileRows) {
    const int64_t r = row + i, c = col + threadIdx.x;
    if (r < size.rows && c < size.cols) tile[i][threadIdx.x] = x[r * size.cols + c];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kTile; i += kTileRows) {
    const int64_t r = row + threadIdx.x, c = col + i;
    if (r >= size.rows || c >= size.cols) continue;
    T& to = y[c * size.rows + r];
    to = add ? to + tile[threadIdx.x][i] : tile[threadIdx.x][i];
  }
}

}  // namespace

template <class T>
void put_transposed(Cuda on, const T* x, T* y, int64_t batch, RowsCols size, GradWrite write) {
  if (batch == 0 || size.rows == 0 || size.cols == 0) return;
  const int64_t tiles =
      int64_t{blocks_for(size.rows, kTile)} * int64_t{blocks_for(size.cols, kTile)};
  launch(on, blocks_for(batch * tiles, 1), dim3(kTile, kTileRows), transpose_kernel<T>, x, y, size,
         write == GradWrite::kAccumulate);
}

template void put_transposed(Cuda, const float*, float*, int64_t, RowsCols, GradWrite);
template void put_transposed(Cuda, const double*, double*, int64_t, RowsCols, GradWrite);

}  // namespace engine::kernels
