#include <cmath>

#include "nn/loss/mean_entropy_kernels.h"

namespace nn::kernels {

template <class T>
void mean_entropy_forward(Cpu, const T* p, T* loss, RowsCols size) {
  double sum = 0;
  for (int64_t i = 0; i < size.numel(); ++i) {
    const auto r = static_cast<double>(p[i]);
    sum -= r * std::log(r + kSmallProbability);
  }
  loss[0] = static_cast<T>(sum / static_cast<double>(size.rows));
}

template <class T>
void mean_entropy_backward(Cpu, const T* p, const T* dy, T* dp, RowsCols size) {
  const double seed = static_cast<double>(dy[0]) / static_cast<double>(size.rows);
  for (int64_t i = 0; i < size.numel(); ++i) {
    const auto r = static_cast<double>(p[i]);
    dp[i] -= static_cast<T>(seed * (std::log(r + kSmallProbability) + r / (r + kSmallProbability)));
  }
}

template void mean_entropy_forward(Cpu, const float*, float*, RowsCols);
template void mean_entropy_forward(Cpu, const double*, double*, RowsCols);
template void mean_entropy_backward(Cpu, const float*, const float*, float*, RowsCols);
template void mean_entropy_backward(Cpu, const double*, const double*, double*, RowsCols);

}  // namespace nn::kernels
