#include <cmath>

#include "nn/loss/fixed_sums.cuh"
#include "nn/loss/mean_entropy_kernels.h"

namespace nn::kernels {

template <class T>
void mean_entropy_forward(Cuda on, const T* p, T* loss, RowsCols size) {
  launch_total(
      on, size.numel(),
      [=] __device__(int64_t i) -> double {
        const auto r = static_cast<double>(p[i]);
        return -r * ::log(r + kSmallProbability);
      },
      [=] __device__(double sum) {
        loss[0] = static_cast<T>(sum / static_cast<double>(size.rows));
      });
}

template <class T>
void mean_entropy_backward(Cuda on, const T* p, const T* dy, T* dp, RowsCols size) {
  engine::launch_each(on, size.numel(), [=] __device__(int64_t i) {
    const double seed = static_cast<double>(dy[0]) / static_cast<double>(size.rows);
    const auto r = static_cast<double>(p[i]);
    dp[i] -= static_cast<T>(seed * (::log(r + kSmallProbability) + r / (r + kSmallProbability)));
  });
}

template void mean_entropy_forward(Cuda, const float*, float*, RowsCols);
template void mean_entropy_forward(Cuda, const double*, double*, RowsCols);
template void mean_entropy_backward(Cuda, const float*, const float*, float*, RowsCols);
template void mean_entropy_backward(Cuda, const double*, const double*, double*, RowsCols);

}  // namespace nn::kernels
