#pragma once

#include <type_traits>
#include <utility>

#include "engine/core/backend.h"

// Tensors stored in bf16: activations of the residual stream and what products read, on CUDA
// devices only (design: bf16 is a way to compute; on the CPU tensors stay f32). Arithmetic, sums,
// statistics, parameters and their gradients are f32.
namespace engine {

// What is computed with, where T is what memory holds: f32 for bf16, else T itself.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, bf16>, float, T>;

// dtype of parameters, statistics and their gradients beside activations of `dtype`.
inline Dtype wide_dtype(Dtype dtype) { return dtype == Dtype::kBF16 ? Dtype::kF32 : dtype; }

// As check_precision() (backend.h), for products of tensors that may be stored in bf16: those have
// products in bf16 only. Error(kDtype).
inline void check_product(const char* op, const Tensor& x, Precision precision) {
  if (x.dtype() != Dtype::kBF16) return check_precision(op, x, precision);
  check(precision == Precision::kBf16 && x.device() == Device::kCuda, ErrorKind::kDtype, op,
        ": tensors stored in bf16 are multiplied in bf16, on CUDA devices");
}

// As dispatch(), for ops whose CUDA kernels take bf16, too: body.operator()<bf16>(Cuda) is called
// for a bf16 tensor on a CUDA device. Error(kDtype) for one on the CPU.
template <class Body>
void dispatch_stored(const Tensor& x, Body&& body) {
  if constexpr (kCudaEnabled) {
    if (x.dtype() == Dtype::kBF16 && x.device() == Device::kCuda) {
      return body.template operator()<bf16>(cuda_backend());
    }
  }
  check(x.dtype() != Dtype::kBF16, ErrorKind::kDtype,
        "tensors stored in bf16 are for CUDA devices");
  dispatch(x, std::forward<Body>(body));
}

}  // namespace engine
