#include "engine/ops/cross_entropy.h"

#include "engine/ops/cross_entropy_kernels.h"

namespace engine {

namespace {

void check_logits(const char* op, const Tensor& logits, double denominator) {
  check(logits.tape() != nullptr, ErrorKind::kValue, op, ": logits are not on a tape");
  check(denominator > 0, ErrorKind::kValue, op, ": denominator must be positive, got ",
        denominator);
  check(logits.shape().rank() == 2 && logits.shape()[1] > 0, ErrorKind::kShape, op,
        ": expected logits (B, C), got ", logits.shape());
}

// The loss and its record; forward(backend, losses of the rows, d loss / d logits) fills both.
template <class Forward>
Tensor recorded(const Tensor& logits, const RowsCols& size, double denominator,
                const Forward& forward) {
  StepArena& arena = logits.tape()->arena();
  Tensor loss = arena.empty({1}, logits.dtype());
  const Tensor slope = arena.empty(logits.shape(), logits.dtype());
  const Tensor row_loss = arena.empty({size.rows}, Dtype::kF64);
  dispatch(logits, [&]<class T>(auto backend) {
    double* rows = row_loss.data<double>();
    forward(backend, rows, slope.data<T>());
    kernels::sum_losses(backend, rows, size.rows, denominator, loss.data<T>());
  });

  logits.tape()->record("cross_entropy", {logits}, loss, [=](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(logits);
    dispatch(logits, [&]<class T>(auto backend) {
      kernels::cross_entropy_backward(backend, slope.data<const T>(), dy.data<const T>(),
                                      denominator, dx.grad.data<T>(), size, dx.write);
    });
  });
  return loss;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, CrossEntropy kind,
                     double denominator) {
  check_logits("cross_entropy", logits, denominator);
  check(labels.shape() == Shape{logits.shape()[0]}, ErrorKind::kShape,
        "cross_entropy: expected logits (B, C) and labels (B), got ", logits.shape(), " and ",
        labels.shape());
  const RowsCols size = fold_rows(logits.shape());
  const int32_t* label = labels.data<const int32_t>();
  const bool readable = labels.device() == Device::kCpu;
  for (int64_t r = 0; readable && r < size.rows; ++r) {
    check(label[r] >= 0 && label[r] < size.cols, ErrorKind::kValue, "cross_entropy: label ",
          label[r], " of row ", r, " is outside the ", size.cols, " classes");
  }

  return recorded(logits, size, denominator, [&]<class T>(auto backend, double* rows, T* slope) {
    kernels::cross_entropy_forward(backend, logits.data<const T>(), label, rows, slope, size, kind);
  });
}

Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, CrossEntropy kind,
                          double denominator) {
  check_logits("soft_cross_entropy", logits, denominator);
  check(targets.shape() == logits.shape() && targets.dtype() == logits.dtype(), ErrorKind::kShape,
        "soft_cross_entropy: expected targets like logits, ", logits.dtype(), " ", logits.shape(),
        ", got ", targets.dtype(), " ", targets.shape());
  const RowsCols size = fold_rows(logits.shape());
  return recorded(logits, size, denominator, [&]<class T>(auto backend, double* rows, T* slope) {
    kernels::soft_cross_entropy_forward(backend, logits.data<const T>(), targets.data<const T>(),
                                        rows, slope, size, kind);
  });
}

}  // namespace engine
