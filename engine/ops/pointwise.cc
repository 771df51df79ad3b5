#include "engine/ops/pointwise.h"

#include "engine/core/stored.h"
#include "engine/ops/pointwise_kernels.h"

namespace engine {
namespace {

Tape& tape_of(const char* op, const Tensor& x) {
  check(x.tape() != nullptr, ErrorKind::kValue, op, ": input is not on a tape");
  return *x.tape();
}
void check_same(const char* op, const Tensor& x, const Tensor& other) {
  check(x.shape() == other.shape(), ErrorKind::kShape, op, ": shapes differ: ", x.shape(), " and ",
        other.shape());
}

// target(x) (+)= factor * dy
void give_scaled(const Tensor& x, const Tensor& dy, double factor, Tape& tape) {
  const GradTarget dx = tape.target(x);
  dispatch_stored(dy, [&]<class T>(auto backend) {
    kernels::put_scaled(backend, dy.data<const T>(), static_cast<Wide<T>>(factor),
                        dx.grad.data<T>(), dy.numel(), dx.write);
  });
}

}  // namespace

Tensor add(const Tensor& x, const Tensor& other) {
  Tape& on = tape_of("add", x);
  check_same("add", x, other);
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::add_forward(backend, x.data<const T>(), other.data<const T>(), y.data<T>(), x.numel());
  });
  on.record("add", {x, other}, y, [=](const Tensor& dy, Tape& tape) {
    if (tape.wants_grad(other)) give_scaled(other, dy, 1, tape);
    if (tape.wants_grad(x) && !tape.pass_grad(x, dy)) give_scaled(x, dy, 1, tape);
  });
  return y;
}

Tensor scale(const Tensor& x, double factor) {
  Tape& on = tape_of("scale", x);
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::put_scaled(backend, x.data<const T>(), static_cast<Wide<T>>(factor), y.data<T>(),
                        x.numel(), GradWrite::kOverwrite);
  });
  on.record("scale", {x}, y,
            [=](const Tensor& dy, Tape& tape) { give_scaled(x, dy, factor, tape); });
  return y;
}

Tensor multiply(const Tensor& x, const Tensor& other) {
  Tape& on = tape_of("multiply", x);
  check_same("multiply", x, other);
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::put_product(backend, x.data<const T>(), other.data<const Wide<T>>(), y.data<T>(),
                         x.numel(), GradWrite::kOverwrite);
  });
  on.record("multiply", {x, other}, y, [=](const Tensor& dy, Tape& tape) {
    dispatch_stored(dy, [&]<class T>(auto backend) {
      const T* g = dy.data<const T>();
      if (tape.wants_grad(x)) {
        const GradTarget d = tape.target(x);
        kernels::put_product(backend, g, other.data<const Wide<T>>(), d.grad.data<T>(), dy.numel(),
                             d.write);
      }
      if (tape.wants_grad(other)) {
        const GradTarget d = tape.target(other);
        kernels::put_product(backend, g, x.data<const T>(), d.grad.data<Wide<T>>(), dy.numel(),
                             d.write);
      }
    });
  });
  return y;
}

Tensor relu(const Tensor& x) {
  Tape& on = tape_of("relu", x);
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::relu_forward(backend, x.data<const T>(), y.data<T>(), x.numel());
  });
  on.record("relu", {x}, y, [x, y](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch_stored(dy, [&]<class T>(auto backend) {
      kernels::relu_backward(backend, y.data<const T>(), dy.data<const T>(), dx.grad.data<T>(),
                             dy.numel(), dx.write);
    });
  });
  return y;
}

Tensor tanh(const Tensor& x) {
  Tape& on = tape_of("tanh", x);
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::tanh_forward(backend, x.data<const T>(), y.data<T>(), x.numel());
  });
  on.record("tanh", {x}, y, [x, y](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch_stored(dy, [&]<class T>(auto backend) {
      kernels::tanh_backward(backend, y.data<const T>(), dy.data<const T>(), dx.grad.data<T>(),
                             dy.numel(), dx.write);
    });
  });
  return y;
}

Tensor round_bf16(const Tensor& x) {
  if (x.dtype() == Dtype::kBF16) return x;
  Tape& on = tape_of("round_bf16", x);
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    kernels::put_bf16(backend, x.data<const T>(), y.data<T>(), x.numel(), GradWrite::kOverwrite);
  });
  on.record("round_bf16", {x}, y, [x](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch(dy, [&]<class T>(auto backend) {
      kernels::put_bf16(backend, dy.data<const T>(), dx.grad.data<T>(), dy.numel(), dx.write);
    });
  });
  return y;
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  Tape& on = tape_of("reshape", x);
  Tensor y = x.viewed(shape);
  on.record("reshape", {x}, y, [=](const Tensor& dy, Tape& tape) {
    if (!tape.pass_grad(x, dy)) give_scaled(x, dy, 1, tape);
  });
  return y;
}

Tensor slice(const Tensor& x, int64_t begin, int64_t end) {
  Tape& on = tape_of("slice", x);
  Tensor y = x.rows(begin, end);
  on.record("slice", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor part = tape.target_zeroed(x).rows(begin, end);
    dispatch_stored(dy, [&]<class T>(auto backend) {
      kernels::put_scaled(backend, dy.data<const T>(), Wide<T>(1), part.data<T>(), dy.numel(),
                          GradWrite::kAccumulate);
    });
  });
  return y;
}

}  // namespace engine
