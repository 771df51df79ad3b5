#include "engine/ops/unit_rows.h"

#include "engine/ops/unit_rows_kernels.h"

namespace engine {

Tensor unit_rows(const Tensor& x, const Tensor& factor, double eps) {
  check(x.tape() != nullptr, ErrorKind::kValue, "unit_rows: input is not on a tape");
  check(x.shape().rank() >= 1, ErrorKind::kShape, "unit_rows: expected (..., C), got ", x.shape());
  check(!factor.defined() || factor.shape() == Shape{1}, ErrorKind::kShape,
        "unit_rows: expected one factor, got ", factor.shape());
  const RowsCols size = fold_rows(x.shape());
  StepArena& arena = x.tape()->arena();
  Tensor y = arena.empty(x.shape(), x.dtype());
  const Tensor norms = arena.empty({size.rows}, x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    const T* by = factor.defined() ? factor.data<const T>() : nullptr;
    kernels::unit_rows_forward(backend, x.data<const T>(), by, y.data<T>(), norms.data<T>(), size,
                               eps);
  });
  x.tape()->record("unit_rows", {x, factor}, y, [=](const Tensor& dy, Tape& tape) {
    dispatch(x, [&]<class T>(auto backend) {
      const T *in = x.data<const T>(), *n = norms.data<const T>(), *g = dy.data<const T>();
      if (factor.defined() && tape.wants_grad(factor)) {
        const GradTarget d = tape.target(factor);
        kernels::unit_rows_backward_factor(backend, in, n, g, d.grad.data<T>(), size, d.write);
      }
      if (!tape.wants_grad(x)) return;
      const T* by = factor.defined() ? factor.data<const T>() : nullptr;
      const GradTarget d = tape.target(x);
      kernels::unit_rows_backward(backend, in, by, n, g, d.grad.data<T>(), size, d.write);
    });
  });
  return y;
}

}  // namespace engine
