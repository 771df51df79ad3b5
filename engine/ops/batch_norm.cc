#include "engine/ops/batch_norm.h"

#include "engine/ops/batch_norm_kernels.h"
#include "engine/ops/pointwise_kernels.h"
#include "engine/ops/residual.h"

namespace engine {
namespace {

using kernels::NormColumns;
using kernels::NormGradient;

// One normalisation, as its backward needs it.
struct Norm {
  Tensor x, scale, bias, mean, rstd, residual, y;
  bool relu = false, fixed = false;

  RowsCols size() const { return fold_rows(x.shape()); }
  template <class T>
  NormColumns<T> columns() const {
    return {mean.data<const T>(), rstd.data<const T>(), scale.data<const T>(),
            bias.data<const T>()};
  }
};

void check_operands(const char* op, const Tensor& x, const Tensor& scale, const Tensor& bias,
                    double eps, const NormTail& tail) {
  check(x.tape() != nullptr, ErrorKind::kValue, op, ": input is not on a tape");
  check(eps > 0, ErrorKind::kValue, op, ": eps must be positive, got ", eps);
  check(x.shape().rank() >= 1 && x.shape()[-1] > 0, ErrorKind::kShape, op,
        ": expected (..., C) with C > 0, got ", x.shape());
  const Shape row{x.shape()[-1]};
  check(scale.shape() == row && bias.shape() == row, ErrorKind::kShape, op,
        ": expected scale and bias of ", row, ", got ", scale.shape(), " and ", bias.shape());
  check(tail.residual == nullptr || tail.residual->shape() == x.shape(), ErrorKind::kShape, op,
        ": expected a residual of ", x.shape());
}
void check_statistics(const char* op, const RunningStatistics& s, const Tensor& x) {
  const Shape row{x.shape()[-1]};
  check(s.mean.shape() == row && s.var.shape() == row, ErrorKind::kShape, op,
        ": expected running statistics of ", row, ", got ", s.mean.shape(), " and ", s.var.shape());
}

void norm_backward(const Norm& norm, const Tensor& dy, Tape& tape) {
  const bool residual = norm.residual.defined();
  // With a residual the sign of y cannot be found from x, and dresidual is g anyway.
  Tensor g = dy;
  if (norm.relu && residual) {
    g = tape.scratch_like(dy);
    dispatch(dy, [&]<class T>(auto backend) {
      kernels::relu_backward(backend, norm.y.data<const T>(), dy.data<const T>(), g.data<T>(),
                             dy.numel(), GradWrite::kOverwrite);
    });
  }
  const int64_t cols = norm.size().cols;
  const bool x = tape.wants_grad(norm.x), scale = tape.wants_grad(norm.scale);
  const bool bias = tape.wants_grad(norm.bias);
  dispatch(dy, [&]<class T>(auto backend) {
    const NormGradient<T> from{norm.x.data<const T>(), g.data<const T>(), norm.columns<T>(),
                               norm.relu && !residual, norm.size()};
    T* sums = nullptr;
    if (scale || bias || (x && !norm.fixed)) {
      sums = tape.arena().empty({2, cols}, dy.dtype()).data<T>();
      kernels::batch_norm_sums(backend, from, sums);
    }
    kernels::batch_norm_param_gradients<T>(
        backend, sums, norm.rstd.data<const T>(),
        scale ? tape.target_zeroed(norm.scale).template data<T>() : nullptr,
        bias ? tape.target_zeroed(norm.bias).template data<T>() : nullptr, cols);
    if (x) {
      const GradTarget dx = tape.target(norm.x);
      kernels::batch_norm_input_gradient<T>(backend, from, norm.fixed ? nullptr : sums,
                                            dx.grad.data<T>(), dx.write);
    }
  });
  give_residual(norm.residual, g, tape);
}

// mean and rstd are known: what both forms have in common.
Tensor normalise(const char* op, Norm norm, const NormTail& tail) {
  Tape& tape = *norm.x.tape();
  norm.y = tape.arena().empty(norm.x.shape(), norm.x.dtype());
  norm.relu = tail.relu;
  if (tail.residual != nullptr) norm.residual = *tail.residual;
  dispatch(norm.x, [&]<class T>(auto backend) {
    kernels::batch_norm_forward(backend, norm.x.data<const T>(), norm.columns<T>(),
                                norm.residual.defined() ? norm.residual.data<const T>() : nullptr,
                                norm.relu, norm.y.data<T>(), norm.size());
  });
  Tensor y = norm.y;
  tape.record(op, {norm.x, norm.scale, norm.bias, norm.residual}, y,
              [norm](const Tensor& dy, Tape& on) { norm_backward(norm, dy, on); });
  return y;
}

Norm norm_of(const Tensor& x, const Tensor& scale, const Tensor& bias) {
  Norm norm;
  norm.x = x;
  norm.scale = scale;
  norm.bias = bias;
  norm.rstd = x.tape()->arena().empty({x.shape()[-1]}, x.dtype());
  return norm;
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& scale, const Tensor& bias,
                  const RunningStatistics* running, double momentum, double eps,
                  const NormTail& tail) {
  check_operands("batch_norm", x, scale, bias, eps, tail);
  check(momentum >= 0 && momentum <= 1, ErrorKind::kValue,
        "batch_norm: momentum must be in [0, 1], got ", momentum);
  const auto [rows, cols] = fold_rows(x.shape());
  check(rows >= 2, ErrorKind::kValue, "batch_norm: a batch of ", x.shape(),
        " has no variance: in training each channel needs 2 values or more");
  if (running != nullptr) check_statistics("batch_norm", *running, x);
  Norm norm = norm_of(x, scale, bias);
  norm.mean = x.tape()->arena().empty({cols}, x.dtype());
  const Tensor var = x.tape()->arena().empty({cols}, x.dtype());
  const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  dispatch(x, [&]<class T>(auto backend) {
    kernels::column_statistics(backend, x.data<const T>(), norm.mean.data<T>(), var.data<T>(),
                               norm.size());
    kernels::rstd_of(backend, var.data<const T>(), norm.rstd.data<T>(), norm.size().cols, eps);
    if (running == nullptr) return;
    kernels::move_average(backend, norm.mean.data<const T>(), 1, momentum, running->mean.data<T>(),
                          norm.size().cols);
    kernels::move_average(backend, var.data<const T>(), unbiased, momentum, running->var.data<T>(),
                          norm.size().cols);
  });
  return normalise("batch_norm", norm, tail);
}

Tensor batch_norm_fixed(const Tensor& x, const Tensor& scale, const Tensor& bias,
                        const RunningStatistics& statistics, double eps, const NormTail& tail) {
  check_operands("batch_norm_fixed", x, scale, bias, eps, tail);
  check_statistics("batch_norm_fixed", statistics, x);
  Norm norm = norm_of(x, scale, bias);
  norm.fixed = true;
  norm.mean = statistics.mean;
  dispatch(x, [&]<class T>(auto backend) {
    kernels::rstd_of(backend, statistics.var.data<const T>(), norm.rstd.data<T>(), norm.size().cols,
                     eps);
  });
  return normalise("batch_norm_fixed", norm, tail);
}

}  // namespace engine
