#include <cmath>

#include "engine/core/cuda_check.h"
#include "engine/ops/softmax_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

constexpr int kLongThreads = kBlockWarps * kWarp;

template <class Layout, class T>
__global__ void __launch_bounds__(Layout::kThreads)
    forward_kernel(const T* x, T* y, RowsCols size) {
  const int64_t row = Layout::row();
  if (row >= size.rows) return;  // the whole team leaves together
  x += row * size.cols;
  y += row * size.cols;

  typename Layout::Packed e[Layout::kSteps];
  T row_max = -INFINITY;
  Layout::each(size.cols, [&](int step, int64_t c) {
    e[step] = Layout::Packed::load(x + c);
    for (const T value : e[step].v) row_max = max(row_max, value);
  });
  row_max = team_max<Layout::kWarps>(row_max);

  T sum = 0;
  Layout::each(size.cols, [&](int step, int64_t) {
    for (T& value : e[step].v) {
      value = exp(value - row_max);
      sum += value;
    }
  });
  const T scale = T(1) / team_sum<Layout::kWarps>(sum);
  Layout::each(size.cols, [&](int step, int64_t c) {
    for (T& value : e[step].v) value *= scale;
    e[step].store(y + c);
  });
}

// One block a row; each thread visits the same columns in every pass.
template <class T>
__global__ void __launch_bounds__(kLongThreads)
    long_forward_kernel(const T* x, T* y, int64_t cols) {
  x += int64_t{blockIdx.x} * cols;
  y += int64_t{blockIdx.x} * cols;

  T row_max = -INFINITY;
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) row_max = max(row_max, x[c]);
  row_max = team_max<kBlockWarps>(row_max);

  T sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) {
    const T e = exp(x[c] - row_max);
    y[c] = e;
    sum += e;
  }
  const T scale = T(1) / team_sum<kBlockWarps>(sum);
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) y[c] *= scale;
}

template <class Layout, class T>
__global__ void __launch_bounds__(Layout::kThreads)
    backward_kernel(const T* y, const T* dy, T* dx, RowsCols size, bool add) {
  const int64_t row = Layout::row();
  if (row >= size.rows) return;
  const int64_t base = row * size.cols;

  typename Layout::Packed p[Layout::kSteps], g[Layout::kSteps];
  T dot = 0;
  Layout::each(size.cols, [&](int step, int64_t c) {
    p[step] = Layout::Packed::load(y + base + c);
    g[step] = Layout::Packed::load(dy + base + c);
    for (int i = 0; i < Layout::kVec; ++i) dot += p[step].v[i] * g[step].v[i];
  });
  dot = team_sum<Layout::kWarps>(dot);
  Layout::each(size.cols, [&](int step, int64_t c) {
    for (int i = 0; i < Layout::kVec; ++i) g[step].v[i] = p[step].v[i] * (g[step].v[i] - dot);
    g[step].put(dx + base + c, add);
  });
}

template <class T>
__global__ void __launch_bounds__(kLongThreads)
    long_backward_kernel(const T* y, const T* dy, T* dx, int64_t cols, bool add) {
  const int64_t base = int64_t{blockIdx.x} * cols;
  T dot = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) dot += y[base + c] * dy[base + c];
  dot = team_sum<kBlockWarps>(dot);
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) {
    const T g = y[base + c] * (dy[base + c] - dot);
    dx[base + c] = add ? dx[base + c] + g : g;
  }
}

}  // namespace

template <class T>
void softmax_forward(Cuda on, const T* x, T* y, RowsCols size) {
  if (size.rows == 0) return;  // a grid of 0 blocks is a launch error
  const bool done =
      with_row_layout<T>(size.cols, packable<T>(size.cols, x, y), [&]<class Layout>() {
        launch(on, Layout::grid(size.rows), Layout::block(), forward_kernel<Layout, T>, x, y, size);
      });
  if (done) return;
  launch(on, blocks_for(size.rows, 1), kLongThreads, long_forward_kernel<T>, x, y, size.cols);
}

template <class T>
void softmax_backward(Cuda on, const T* y, const T* dy, T* dx, RowsCols size, GradWrite write) {
  if (size.rows == 0) return;
  const bool add = write == GradWrite::kAccumulate, packed = packable<T>(size.cols, y, dy, dx);
  const bool done = with_row_layout<T>(size.cols, packed, [&]<class Layout>() {
    launch(on, Layout::grid(size.rows), Layout::block(), backward_kernel<Layout, T>, y, dy, dx,
           size, add);
  });
  if (done) return;
  launch(on, blocks_for(size.rows, 1), kLongThreads, long_backward_kernel<T>, y, dy, dx, size.cols,
         add);
}

template void softmax_forward(Cuda, const float*, float*, RowsCols);
template void softmax_forward(Cuda, const double*, double*, RowsCols);
template void softmax_backward(Cuda, const float*, const float*, float*, RowsCols, GradWrite);
template void softmax_backward(Cuda, const double*, const double*, double*, RowsCols, GradWrite);

}  // namespace engine::kernels
