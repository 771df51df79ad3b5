#include "engine/ops/add_scaled.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/add_scaled_kernels.h"
#include "engine/ops/pointwise_kernels.h"

namespace engine {

Tensor add_scaled(const Tensor& x, const Tensor& branch, std::span<const float> factors) {
  check(x.tape() != nullptr, ErrorKind::kValue, "add_scaled: input is not on a tape");
  Tape& on = *x.tape();
  check(x.shape() == branch.shape(), ErrorKind::kShape, "add_scaled: shapes differ: ", x.shape(),
        " and ", branch.shape());
  const auto images = static_cast<int64_t>(factors.size());
  check(x.shape().rank() > 0 && x.shape()[0] == images, ErrorKind::kShape, "add_scaled: ", images,
        " factors for ", x.shape());
  for (const float factor : factors) {
    check(std::isfinite(factor), ErrorKind::kValue, "add_scaled: a factor is ", factor);
  }
  const int64_t size = images == 0 ? 0 : x.numel() / images;
  const Tensor kept = on.arena().empty({images}, Dtype::kF32);
  std::ranges::copy(factors, kept.data<float>());
  Tensor y = on.arena().empty(x.shape(), x.dtype());
  dispatch_cpu(x, [&]<class T>(auto backend) {
    kernels::add_scaled(backend, x.data<const T>(), branch.data<const T>(),
                        kept.data<const float>(), y.data<T>(), images, size);
  });
  on.record("add_scaled", {x, branch}, y, [=](const Tensor& dy, Tape& tape) {
    if (tape.wants_grad(branch)) {
      const GradTarget d = tape.target(branch);
      dispatch_cpu(dy, [&]<class T>(auto backend) {
        kernels::add_scaled_backward(backend, dy.data<const T>(), kept.data<const float>(),
                                     d.grad.data<T>(), images, size, d.write);
      });
    }
    if (tape.wants_grad(x) && !tape.pass_grad(x, dy)) {
      const GradTarget d = tape.target(x);
      dispatch_cpu(dy, [&]<class T>(auto backend) {
        kernels::put_scaled(backend, dy.data<const T>(), T(1), d.grad.data<T>(), dy.numel(),
                            d.write);
      });
    }
  });
  return y;
}

}  // namespace engine
