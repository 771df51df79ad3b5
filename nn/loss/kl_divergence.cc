#include "nn/loss/kl_divergence.h"

#include "nn/loss/kl_divergence_kernels.h"

namespace nn {

using engine::check;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

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
  const Tensor row_loss = tape->arena().empty({rows}, engine::Dtype::kF64);
  engine::dispatch(logits, [&]<class T>(auto backend) {
    kernels::kl_divergence_forward(
        backend, logits.data<const T>(), other.data<const T>(), slopes[0].data<T>(),
        slopes[1].data<T>(), row_loss.data<double>(), loss.data<T>(), {rows, classes}, denominator);
  });
  tape->record("kl_divergence", {logits, other}, loss,
               [logits, other, denominator, of_logits = slopes[0], of_other = slopes[1]](
                   const Tensor& dy, Tape& t) {
                 const auto put = [&](const Tensor& x, const Tensor& slope) {
                   if (!t.wants_grad(x)) return;
                   const engine::GradTarget target = t.target(x);
                   engine::dispatch(x, [&]<class T>(auto backend) {
                     kernels::kl_divergence_backward(backend, slope.data<const T>(),
                                                     dy.data<const T>(), target.grad.data<T>(),
                                                     slope.numel(), denominator, target.write);
                   });
                 };
                 put(logits, of_logits);
                 put(other, of_other);
               });
  return loss;
}

}  // namespace nn
