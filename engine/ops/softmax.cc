#include "engine/ops/softmax.h"

#include "engine/ops/softmax_kernels.h"

namespace engine {

Tensor softmax(const Tensor& x) {
  check(x.tape() != nullptr, ErrorKind::kValue, "softmax: input is not on a tape");
  check(x.shape().rank() >= 1 && x.shape()[-1] > 0, ErrorKind::kShape,
        "softmax: expected (..., C) with C > 0, got ", x.shape());
  const RowsCols size = fold_rows(x.shape());

  Tensor y = x.tape()->arena().empty(x.shape(), x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    kernels::softmax_forward(backend, x.data<const T>(), y.data<T>(), size);
  });

  x.tape()->record("softmax", {x}, y, [x, y, size](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch(x, [&]<class T>(auto backend) {
      kernels::softmax_backward(backend, y.data<const T>(), dy.data<const T>(), dx.grad.data<T>(),
                                size, dx.write);
    });
  });
  return y;
}

}  // namespace engine
