#include "engine/ops/concat.h"

#include "engine/core/stored.h"
#include "engine/ops/pointwise_kernels.h"

namespace engine {

Tensor concat(std::span<const Tensor> parts) {
  check(!parts.empty(), ErrorKind::kValue, "concat: nothing to put together");
  int64_t rows = 0;
  for (const Tensor& part : parts) {
    check(part.tape() != nullptr, ErrorKind::kValue, "concat: an input is not on a tape");
    const Shape &a = part.shape(), &b = parts[0].shape();
    bool same = a.rank() == b.rank() && a.rank() >= 1;
    for (int axis = 1; same && axis < a.rank(); ++axis) same = a[axis] == b[axis];
    check(same, ErrorKind::kShape, "concat: ", a, " behind ", b,
          ": only the first axis may differ");
    rows += a[0];
  }
  Tape& on = *parts[0].tape();
  Shape shape;
  for (int axis = parts[0].shape().rank() - 1; axis > 0; --axis) {
    shape = shape.with_prepended(parts[0].shape()[axis]);
  }
  Tensor y = on.arena().empty(shape.with_prepended(rows), parts[0].dtype());
  // Part by part: f(part, its rows of `whole`).
  const auto each = [](std::span<const Tensor> all, const Tensor& whole, auto&& f) {
    int64_t begin = 0;
    for (const Tensor& part : all) {
      const int64_t end = begin + part.shape()[0];
      f(part, whole.rows(begin, end));
      begin = end;
    }
  };
  const auto put = [](const Tensor& from, const Tensor& to, GradWrite write) {
    if (from.numel() == 0) return;
    dispatch_stored(from, [&]<class T>(auto backend) {
      kernels::put_scaled(backend, from.data<const T>(), Wide<T>(1), to.data<T>(), from.numel(),
                          write);
    });
  };
  each(parts, y,
       [&](const Tensor& part, const Tensor& to) { put(part, to, GradWrite::kOverwrite); });
  const std::span<const Tensor> kept = on.keep(parts);
  on.record("concat", parts, std::span<Tensor>(&y, 1), [=](const Tensor& dy, Tape& tape) {
    each(kept, dy, [&](const Tensor& part, const Tensor& rows_of_dy) {
      if (!tape.wants_grad(part)) return;
      const GradTarget dx = tape.target(part);
      put(rows_of_dy, dx.grad, dx.write);
    });
  });
  return y;
}

}  // namespace engine
