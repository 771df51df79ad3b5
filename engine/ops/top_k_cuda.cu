#include "engine/ops/top_k_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

// An entry of a row and where it ranks: the larger first, NaN last, equal ones by column. A column
// of -1 is no entry.
template <class T>
struct Entry {
  T value;
  int32_t column;
  __device__ bool before(const Entry& other) const {
    if (column < 0 || other.column < 0) return column >= 0;
    const bool nan = value != value, other_nan = other.value != other.value;
    if (nan != other_nan) return other_nan;
    if (nan || value == other.value) return column < other.column;
    return value > other.value;
  }
};

// A warp a row: the j-th largest is the first of what comes after the one before it.
template <class T>
__global__ void __launch_bounds__(kWarp* kRowsPerBlock)
    top_k_kernel(const T* x, int32_t* index, RowsCols size, int64_t k) {
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= size.rows) return;  // the whole warp leaves together
  x += row * size.cols;
  Entry<T> last{T(0), -1};
  for (int64_t j = 0; j < k; ++j) {
    Entry<T> best{T(0), -1};
    for (int64_t c = threadIdx.x; c < size.cols; c += kWarp) {
      const Entry<T> mine{x[c], static_cast<int32_t>(c)};
      if ((j == 0 || last.before(mine)) && mine.before(best)) best = mine;
    }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const Entry<T> other{__shfl_xor_sync(0xffffffffu, best.value, step),
                           __shfl_xor_sync(0xffffffffu, best.column, step)};
      if (other.before(best)) best = other;
    }
    if (threadIdx.x == 0) index[row * k + j] = best.column;
    last = best;
  }
}

}  // namespace

template <class T>
void top_k_forward(Cuda on, const T* x, int32_t* index, RowsCols size, int64_t k) {
  if (size.rows == 0) return;
  launch(on, blocks_for(size.rows, kRowsPerBlock), dim3(kWarp, kRowsPerBlock), top_k_kernel<T>, x,
         index, size, k);
}

template <class T>
void pick_forward(Cuda on, const T* x, const int32_t* index, T* y, RowsCols size, int64_t k) {
  launch_each(on, size.rows * k, [=] __device__(int64_t i) {
    y[i] = index[i] < 0 ? T(0) : x[i / k * size.cols + index[i]];
  });
}

// No index comes twice in a row, so no two threads add to one place.
template <class T>
void pick_backward(Cuda on, const int32_t* index, const T* dy, T* dx, RowsCols size, int64_t k) {
  launch_each(on, size.rows * k, [=] __device__(int64_t i) {
    if (index[i] >= 0) dx[i / k * size.cols + index[i]] += dy[i];
  });
}

template void top_k_forward(Cuda, const float*, int32_t*, RowsCols, int64_t);
template void top_k_forward(Cuda, const double*, int32_t*, RowsCols, int64_t);
template void pick_forward(Cuda, const float*, const int32_t*, float*, RowsCols, int64_t);
template void pick_forward(Cuda, const double*, const int32_t*, double*, RowsCols, int64_t);
template void pick_backward(Cuda, const int32_t*, const float*, float*, RowsCols, int64_t);
template void pick_backward(Cuda, const int32_t*, const double*, double*, RowsCols, int64_t);

}  // namespace engine::kernels
