#include "nn/loss/kl_divergence.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"

namespace nn {

using engine::check;
using engine::Cpu;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

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

Tensor kl_divergence(const Tensor& logits, const Tensor& other, double denominator) {
  Tape* const tape = logits.tape() != nullptr ? logits.tape() : other.tape();
  check(tape != nullptr, ErrorKind::kValue, "kl_divergence: no input is on a tape");
  check(denominator > 0, ErrorKind::kValue, "kl_divergence: denominator must be positive, got ",
        denominator);
  check(logits.shape().rank() == 2 && logits.shape()[1] > 0 && logits.shape() == other.shape() &&
            logits.dtype() == other.dtype(),
        ErrorKind::kShape, "kl_divergence: expected two of (B, C) and one type, got ",
        logits.dtype(), " ", logits.shape(), " and ", other.dtype(), " ", other.shape());
  const int64_t rows = logits.shape()[0], classes = logits.shape()[1];
  Tensor loss = tape->arena().empty({1}, logits.dtype());
  const Tensor slopes[] = {tape->arena().empty(logits.shape(), logits.dtype()),
                           tape->arena().empty(logits.shape(), logits.dtype())};
  engine::dispatch_cpu(logits, [&]<class T>(Cpu) {
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * classes;
      sum += divergence(logits.data<const T>() + at, other.data<const T>() + at,
                        slopes[0].data<T>() + at, slopes[1].data<T>() + at, classes);
    }
    loss.data<T>()[0] = static_cast<T>(sum / denominator);
  });
  tape->record("kl_divergence", {logits, other}, loss,
               [logits, other, denominator, of_logits = slopes[0], of_other = slopes[1]](
                   const Tensor& dy, Tape& t) {
                 const auto put = [&](const Tensor& x, const Tensor& slope) {
                   if (!t.wants_grad(x)) return;
                   const engine::GradTarget target = t.target(x);
                   engine::dispatch_cpu(x, [&]<class T>(Cpu) {
                     const double factor = static_cast<double>(dy.data<const T>()[0]) / denominator;
                     const T* from = slope.data<const T>();
                     T* to = target.grad.data<T>();
                     const bool adds = target.write == engine::GradWrite::kAccumulate;
                     for (int64_t i = 0; i < slope.numel(); ++i) {
                       const T value = static_cast<T>(factor * static_cast<double>(from[i]));
                       to[i] = adds ? to[i] + value : value;
                     }
                   });
                 };
                 put(logits, of_logits);
                 put(other, of_other);
               });
  return loss;
}

}  // namespace nn
