#include "nn/loss/mean_entropy.h"

#include "nn/loss/mean_entropy_kernels.h"

namespace nn {

using engine::check;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

Tensor mean_entropy(const Tensor& p) {
  check(p.tape() != nullptr, ErrorKind::kValue, "mean_entropy: input is not on a tape");
  check(p.shape().rank() == 2 && p.shape()[0] > 0, ErrorKind::kShape,
        "mean_entropy: expected (N, E), got ", p.shape());
  const engine::RowsCols size = engine::fold_rows(p.shape());
  Tensor loss = p.tape()->arena().empty({1}, p.dtype());
  engine::dispatch(p, [&]<class T>(auto backend) {
    kernels::mean_entropy_forward(backend, p.data<const T>(), loss.data<T>(), size);
  });
  p.tape()->record("mean_entropy", {p}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(p);
    engine::dispatch(p, [&]<class T>(auto backend) {
      kernels::mean_entropy_backward(backend, p.data<const T>(), dy.data<const T>(), dx.data<T>(),
                                     size);
    });
  });
  return loss;
}

}  // namespace nn
