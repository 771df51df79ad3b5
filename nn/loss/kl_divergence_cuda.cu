#include <cmath>

#include "engine/ops/warp.cuh"
#include "nn/loss/kl_divergence_kernels.h"

namespace nn::kernels {
namespace {

using engine::kernels::kWarp;
using engine::kernels::team_max;
using engine::kernels::team_sum;

constexpr int kTeamWarps = 4, kThreads = kTeamWarps * kWarp;

// log sum_c exp(x_c), in every thread of the block.
template <class T>
__device__ double log_sum_exp(const T* x, int64_t cols) {
  double largest = -INFINITY;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    largest = max(largest, static_cast<double>(x[c]));
  }
  largest = team_max<kTeamWarps>(largest);
  double sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    sum += ::exp(static_cast<double>(x[c]) - largest);
  }
  return largest + ::log(team_sum<kTeamWarps>(sum));
}

// A block a row: its divergence and its gradients.
template <class T>
__global__ void __launch_bounds__(kThreads)
    divergence_kernel(const T* x, const T* y, T* dx, T* dy, double* row_loss, int64_t cols) {
  const int64_t base = int64_t{blockIdx.x} * cols;
  x += base, y += base, dx += base, dy += base;
  const double zx = log_sum_exp(x, cols), zy = log_sum_exp(y, cols);
  const auto log_p = [&](int64_t c) { return static_cast<double>(x[c]) - zx; };
  const auto log_q = [&](int64_t c) { return static_cast<double>(y[c]) - zy; };
  double sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    sum += ::exp(log_p(c)) * (log_p(c) - log_q(c));
  }
  sum = team_sum<kTeamWarps>(sum);
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const double p = ::exp(log_p(c));
    dx[c] = static_cast<T>(p * (log_p(c) - log_q(c) - sum));
    dy[c] = static_cast<T>(::exp(log_q(c)) - p);
  }
  if (threadIdx.x == 0) row_loss[blockIdx.x] = sum;
}

}  // namespace

template <class T>
void kl_divergence_forward(Cuda on, const T* logits, const T* other, T* dlogits, T* dother,
                           double* row_loss, T* loss, RowsCols size, double denominator) {
  if (size.rows > 0) {  // a grid of 0 blocks is a launch error
    engine::launch(on, engine::blocks_for(size.rows, 1), kThreads, divergence_kernel<T>, logits,
                   other, dlogits, dother, row_loss, size.cols);
  }
  engine::launch_sums<double>(
      on, 1, size.rows, [=] __device__(int64_t, int64_t r) -> double { return row_loss[r]; },
      [=] __device__(int64_t, double sum) { loss[0] = static_cast<T>(sum / denominator); });
}

template <class T>
void kl_divergence_backward(Cuda on, const T* slope, const T* dy, T* dx, int64_t count,
                            double denominator, GradWrite write) {
  const bool adds = write == GradWrite::kAccumulate;
  engine::launch_each(on, count, [=] __device__(int64_t i) {
    const double factor = static_cast<double>(dy[0]) / denominator;
    const T value = static_cast<T>(factor * static_cast<double>(slope[i]));
    dx[i] = adds ? dx[i] + value : value;
  });
}

template void kl_divergence_forward(Cuda, const float*, const float*, float*, float*, double*,
                                    float*, RowsCols, double);
template void kl_divergence_forward(Cuda, const double*, const double*, double*, double*, double*,
                                    double*, RowsCols, double);
template void kl_divergence_backward(Cuda, const float*, const float*, float*, int64_t, double,
                                     GradWrite);
template void kl_divergence_backward(Cuda, const double*, const double*, double*, int64_t, double,
                                     GradWrite);

}  // namespace nn::kernels
