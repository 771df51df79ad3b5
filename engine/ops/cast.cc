#include "engine/ops/cast.h"

#include "engine/core/stored.h"
#include "engine/ops/cast_kernels.h"

namespace engine {
namespace {

void put(const Tensor& x, const Tensor& y, GradWrite write) {
  if constexpr (kCudaEnabled) {
    if (y.dtype() == Dtype::kBF16) {
      kernels::put_cast(cuda_backend(), x.data<const float>(), y.data<bf16>(), x.numel(), write);
    } else {
      kernels::put_cast(cuda_backend(), x.data<const bf16>(), y.data<float>(), x.numel(), write);
    }
  }
}

}  // namespace

Tensor cast(const Tensor& x, Dtype dtype) {
  if (x.dtype() == dtype) return x;
  check(x.tape() != nullptr, ErrorKind::kValue, "cast: input is not on a tape");
  const auto known = [](Dtype t) { return t == Dtype::kF32 || t == Dtype::kBF16; };
  check(known(x.dtype()) && known(dtype), ErrorKind::kDtype, "cast: from ", x.dtype(), " to ",
        dtype, ", expected f32 and bf16");
  check(x.device() == Device::kCuda, ErrorKind::kDtype,
        "cast: tensors stored in bf16 are for CUDA devices");
  Tensor y = x.tape()->arena().empty(x.shape(), dtype);
  put(x, y, GradWrite::kOverwrite);
  x.tape()->record("cast", {x}, y, [x](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    put(dy, dx.grad, dx.write);
  });
  return y;
}

}  // namespace engine
