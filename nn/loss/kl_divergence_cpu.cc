#include <algorithm>
#include <cmath>

#include "nn/loss/kl_divergence_kernels.h"

namespace nn::kernels {
namespace {

// log sum_c exp(x_c)
template <class T>
double log_sum_exp(const T* x, int64_t classes) {
  const auto largest = static_cast<double>(*std::max_element(x, x + classes));
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(x[c]) - largest);
  return largest + std::log(sum);
}

// The divergence of one row, and its gradients.
template <class T>
double divergence(const T* x, const T* y, T* dx, T* dy, int64_t classes) {
  const double zx = log_sum_exp(x, classes), zy = log_sum_exp(y, classes);
  const auto ratio = [&](int64_t c) {  // log p - log q
    return (static_cast<double>(x[c]) - zx) - (static_cast<double>(y[c]) - zy);
  };
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) {
    sum += std::exp(static_cast<double>(x[c]) - zx) * ratio(c);
  }
  for (int64_t c = 0; c < classes; ++c) {
    const double p = std::exp(static_cast<double>(x[c]) - zx);
    dx[c] = static_cast<T>(p * (ratio(c) - sum));
    dy[c] = static_cast<T>(std::exp(static_cast<double>(y[c]) - zy) - p);
  }
  return sum;
}

}  // namespace

template <class T>
void kl_divergence_forward(Cpu, const T* logits, const T* other, T* dlogits, T* dother,
                           double* row_loss, T* loss, RowsCols size, double denominator) {
  double sum = 0;
  for (int64_t r = 0; r < size.rows; ++r) {
    const int64_t at = r * size.cols;
    row_loss[r] = divergence(logits + at, other + at, dlogits + at, dother + at, size.cols);
    sum += row_loss[r];
  }
  loss[0] = static_cast<T>(sum / denominator);
}

template <class T>
void kl_divergence_backward(Cpu, const T* slope, const T* dy, T* dx, int64_t count,
                            double denominator, GradWrite write) {
  const double factor = static_cast<double>(dy[0]) / denominator;
  const bool adds = write == GradWrite::kAccumulate;
  for (int64_t i = 0; i < count; ++i) {
    const T value = static_cast<T>(factor * static_cast<double>(slope[i]));
    dx[i] = adds ? dx[i] + value : value;
  }
}

template void kl_divergence_forward(Cpu, const float*, const float*, float*, float*, double*,
                                    float*, RowsCols, double);
template void kl_divergence_forward(Cpu, const double*, const double*, double*, double*, double*,
                                    double*, RowsCols, double);
template void kl_divergence_backward(Cpu, const float*, const float*, float*, int64_t, double,
                                     GradWrite);
template void kl_divergence_backward(Cpu, const double*, const double*, double*, int64_t, double,
                                     GradWrite);

}  // namespace nn::kernels
