#include "engine/ops/add_scaled.h"

#include <cmath>

#include "engine/core/device_memory.h"
#include "engine/core/stored.h"
#include "engine/ops/add_scaled_kernels.h"
#include "engine/ops/pointwise_kernels.h"

namespace engine {

Tensor add_scaled(const Tensor& x, const Tensor& branch, std::span<const float> factors) {
  check(x.tape() != nullptr, ErrorKind::kValue, "add_scaled: input is not on a tape");
  for (const float factor : factors) {
    check(std::isfinite(factor), ErrorKind::kValue, "add_scaled: a factor is ", factor);
  }
  StepArena& arena = x.tape()->arena();
  return add_scaled(
      x, branch,
      Tensor(to_device(arena, factors.data(), static_cast<int64_t>(factors.size_bytes())),
             {static_cast<int64_t>(factors.size())}, Dtype::kF32, arena.device()));
}

Tensor add_scaled(const Tensor& x, const Tensor& branch, const Tensor& factors) {
  check(x.tape() != nullptr, ErrorKind::kValue, "add_scaled: input is not on a tape");
  Tape& on = *x.tape();
  check(x.shape() == branch.shape(), ErrorKind::kShape, "add_scaled: shapes differ: ", x.shape(),
        " and ", branch.shape());
  const int64_t images = factors.numel();
  check(x.shape().rank() > 0 && x.shape()[0] == images, ErrorKind::kShape, "add_scaled: ", images,
        " factors for ", x.shape());
  const int64_t size = images == 0 ? 0 : x.numel() / images;
  const float* kept = factors.data<const float>();
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::add_scaled(backend, x.data<const T>(), branch.data<const T>(), kept, y.data<T>(),
                        images, size);
  });
  on.record("add_scaled", {x, branch}, y, [=](const Tensor& dy, Tape& tape) {
    if (tape.wants_grad(branch)) {
      const GradTarget d = tape.target(branch);
      dispatch_stored(dy, [&]<class T>(auto backend) {
        kernels::add_scaled_backward(backend, dy.data<const T>(), kept, d.grad.data<T>(), images,
                                     size, d.write);
      });
    }
    if (tape.wants_grad(x) && !tape.pass_grad(x, dy)) {
      const GradTarget d = tape.target(x);
      dispatch_stored(dy, [&]<class T>(auto backend) {
        kernels::put_scaled(backend, dy.data<const T>(), Wide<T>(1), d.grad.data<T>(), dy.numel(),
                            d.write);
      });
    }
  });
  return y;
}

}  // namespace engine
