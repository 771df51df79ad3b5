#include <cmath>

#include "engine/core/cuda_workspace.h"
#include "engine/ops/unit_rows_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

constexpr int64_t kShortRow = 1024;  // elements that one warp takes

template <int kWarps>
constexpr int rows_of_block() {
  return kWarps == 1 ? kRowsPerBlock : 1;
}

// Calls f(row, its dot product) in every thread of the row's team; the dot of rows of a and b.
template <int kWarps, class T, class F>
__device__ void with_dot(const T* a, const T* b, RowsCols size, const F& f) {
  const int64_t row = int64_t{blockIdx.x} * rows_of_block<kWarps>() + threadIdx.y;
  if (row >= size.rows) return;  // the whole team leaves together
  a += row * size.cols;
  b += row * size.cols;
  T dot = 0;
  for (int64_t c = threadIdx.x; c < size.cols; c += kWarps * kWarp) dot = fma(a[c], b[c], dot);
  f(row, team_sum<kWarps>(dot));
}

template <int kWarps, class T>
__global__ void __launch_bounds__(kWarps* kWarp* rows_of_block<kWarps>())
    forward_kernel(const T* x, const T* factor, T* y, T* norms, RowsCols size, double eps) {
  with_dot<kWarps>(x, x, size, [&](int64_t row, T squares) {
    const T norm = T(1) / sqrt(squares + static_cast<T>(eps));
    const T scale = factor != nullptr ? *factor * norm : norm;
    if (threadIdx.x == 0) norms[row] = norm;
    for (int64_t c = threadIdx.x; c < size.cols; c += kWarps * kWarp) {
      y[row * size.cols + c] = scale * x[row * size.cols + c];
    }
  });
}

template <int kWarps, class T>
__global__ void __launch_bounds__(kWarps* kWarp* rows_of_block<kWarps>())
    backward_kernel(const T* x, const T* factor, const T* norms, const T* dy, T* dx, RowsCols size,
                    bool add) {
  with_dot<kWarps>(x, dy, size, [&](int64_t row, T dot) {
    const T norm = norms[row], along = norm * norm * dot;
    const T scale = factor != nullptr ? *factor * norm : norm;
    for (int64_t c = threadIdx.x; c < size.cols; c += kWarps * kWarp) {
      const int64_t at = row * size.cols + c;
      const T d = scale * (dy[at] - along * x[at]);
      dx[at] = add ? dx[at] + d : d;
    }
  });
}

// share[r] = norms[r] * x[r] . dy[r], a row's part of dfactor
template <int kWarps, class T>
__global__ void __launch_bounds__(kWarps* kWarp* rows_of_block<kWarps>())
    share_kernel(const T* x, const T* norms, const T* dy, double* share, RowsCols size) {
  with_dot<kWarps>(x, dy, size, [&](int64_t row, T dot) {
    if (threadIdx.x == 0) share[row] = static_cast<double>(norms[row] * dot);
  });
}

// Calls f.operator()<kWarps>(grid, block).
template <class F>
void with_team(RowsCols size, F&& f) {
  if (size.rows == 0) return;
  const auto with = [&]<int kWarps>() {
    constexpr int kRows = rows_of_block<kWarps>();
    f.template operator()<kWarps>(dim3(blocks_for(size.rows, kRows)), dim3(kWarps * kWarp, kRows));
  };
  size.cols <= kShortRow ? with.template operator()<1>() : with.template operator()<kBlockWarps>();
}

}  // namespace

template <class T>
void unit_rows_forward(Cuda on, const T* x, const T* factor, T* y, T* norms, RowsCols size,
                       double eps) {
  with_team(size, [&]<int kWarps>(dim3 grid, dim3 block) {
    launch(on, grid, block, forward_kernel<kWarps, T>, x, factor, y, norms, size, eps);
  });
}

template <class T>
void unit_rows_backward(Cuda on, const T* x, const T* factor, const T* norms, const T* dy, T* dx,
                        RowsCols size, GradWrite write) {
  with_team(size, [&]<int kWarps>(dim3 grid, dim3 block) {
    launch(on, grid, block, backward_kernel<kWarps, T>, x, factor, norms, dy, dx, size,
           write == GradWrite::kAccumulate);
  });
}

template <class T>
void unit_rows_backward_factor(Cuda on, const T* x, const T* norms, const T* dy, T* dfactor,
                               RowsCols size, GradWrite write) {
  const int64_t bytes = size.rows * static_cast<int64_t>(sizeof(double));
  auto* share = static_cast<double*>(cuda_workspace(bytes));
  with_team(size, [&]<int kWarps>(dim3 grid, dim3 block) {
    launch(on, grid, block, share_kernel<kWarps, T>, x, norms, dy, share, size);
  });
  const bool add = write == GradWrite::kAccumulate;
  launch_sums<double>(
      on, 1, size.rows, [=] __device__(int64_t, int64_t r) { return share[r]; },
      [=] __device__(int64_t, double sum) {
        *dfactor = static_cast<T>(add ? static_cast<double>(*dfactor) + sum : sum);
      });
}

template void unit_rows_forward(Cuda, const float*, const float*, float*, float*, RowsCols, double);
template void unit_rows_forward(Cuda, const double*, const double*, double*, double*, RowsCols,
                                double);
template void unit_rows_backward(Cuda, const float*, const float*, const float*, const float*,
                                 float*, RowsCols, GradWrite);
template void unit_rows_backward(Cuda, const double*, const double*, const double*, const double*,
                                 double*, RowsCols, GradWrite);
template void unit_rows_backward_factor(Cuda, const float*, const float*, const float*, float*,
                                        RowsCols, GradWrite);
template void unit_rows_backward_factor(Cuda, const double*, const double*, const double*, double*,
                                        RowsCols, GradWrite);

}  // namespace engine::kernels
