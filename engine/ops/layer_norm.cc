#include "engine/ops/layer_norm.h"

#include "engine/core/stored.h"
#include "engine/ops/layer_norm_kernels.h"

namespace engine {

Tensor layer_norm(const Tensor& x, const Tensor& scale, const Tensor& bias, double eps) {
  check(x.tape() != nullptr, ErrorKind::kValue, "layer_norm: input is not on a tape");
  check(eps > 0, ErrorKind::kValue, "layer_norm: eps must be positive, got ", eps);
  check(x.shape().rank() >= 1 && x.shape()[-1] > 0, ErrorKind::kShape,
        "layer_norm: expected (..., C) with C > 0, got ", x.shape());
  const RowsCols size = fold_rows(x.shape());
  check(scale.shape() == Shape{size.cols} && bias.shape() == Shape{size.cols}, ErrorKind::kShape,
        "layer_norm: expected scale and bias of (", size.cols, "), got ", scale.shape(), " and ",
        bias.shape());

  StepArena& arena = x.tape()->arena();
  Tensor y = arena.empty(x.shape(), x.dtype());
  const Tensor stats = arena.empty({size.rows, 2}, wide_dtype(x.dtype()));
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::layer_norm_forward(backend, x.data<const T>(), scale.data<const Wide<T>>(),
                                bias.data<const Wide<T>>(), y.data<T>(), stats.data<Wide<T>>(),
                                size, eps);
  });

  x.tape()->record("layer_norm", {x, scale, bias}, y, [=](const Tensor& dy, Tape& tape) {
    dispatch_stored(x, [&]<class T>(auto backend) {
      kernels::LayerNormGrads<T> to;
      if (tape.wants_grad(scale) || tape.wants_grad(bias)) {
        // One pass gives both; the sum that nobody wants goes to memory nobody reads.
        const auto sums = [&](const Tensor& p) {
          return (tape.wants_grad(p) ? tape.target_zeroed(p)
                                     : tape.arena().empty(p.shape(), p.dtype()))
              .template data<Wide<T>>();
        };
        to.dscale = sums(scale);
        to.dbias = sums(bias);
      }
      if (tape.wants_grad(x)) {
        const GradTarget dx = tape.target(x);
        to.dx = dx.grad.data<T>();
        to.write = dx.write;
      }
      kernels::layer_norm_backward(backend, x.data<const T>(), scale.data<const Wide<T>>(),
                                   stats.data<const Wide<T>>(), dy.data<const T>(), size, to);
    });
  });
  return y;
}

}  // namespace engine
