#pragma once

#include "engine/config.h"
#include "engine/core/precision.h"
#include "engine/core/tensor.h"

struct CUstream_st;  // what cudaStream_t points to; avoids the CUDA headers here

namespace engine {

// The first argument of every kernel: picks the overload, carries what it runs on.
struct Cpu {};
struct Cuda {
  CUstream_st* stream;
};

Cuda cuda_backend();  // defined in engine/core/cuda_runtime.cu

// Calls body(backend), for kernels that have no element type. Error(kDevice) for a device this
// build lacks.
template <class Body>
void dispatch_device(Device device, Body&& body) {
  if (device == Device::kCpu) return body(Cpu{});
  if constexpr (kCudaEnabled) {
    body(cuda_backend());
  } else {
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

// Calls body.operator()<T>(backend) with the element type (f32 or f64) and device of `x`.
// A CPU-only build never instantiates the Cuda call, so kernels need no stubs.
// Error(kDtype) for other element types, Error(kDevice) for a device this build lacks.
template <class Body>
void dispatch(const Tensor& x, Body&& body) {
  const auto with_type = [&]<class T>() {
    dispatch_device(x.device(), [&](auto backend) { body.template operator()<T>(backend); });
  };
  switch (x.dtype()) {
    case Dtype::kF32:
      return with_type.template operator()<float>();
    case Dtype::kF64:
      return with_type.template operator()<double>();
    default:
      fail(ErrorKind::kDtype, "expected f32 or f64, got ", x.dtype());
  }
}

// Error(kDtype) or Error(kDevice) where x has no products in that precision: bf16 and tf32 are for
// f32 tensors, and tf32 for CUDA devices.
inline void check_precision(const char* op, const Tensor& x, Precision precision) {
  check(precision == Precision::kF32 || x.dtype() == Dtype::kF32, ErrorKind::kDtype, op,
        ": products in ", precision == Precision::kTf32 ? "tf32" : "bf16", " take f32, got ",
        x.dtype());
  check(precision != Precision::kTf32 || x.device() == Device::kCuda, ErrorKind::kDevice, op,
        ": tf32 is for CUDA devices");
}

// As dispatch(), for ops that have only a CPU kernel so far: Error(kDevice) elsewhere.
template <class Body>
void dispatch_cpu(const Tensor& x, Body&& body) {
  check(x.device() == Device::kCpu, ErrorKind::kDevice, "this operation runs on the CPU only, got ",
        name_of(x.device()));
  switch (x.dtype()) {
    case Dtype::kF32:
      return body.template operator()<float>(Cpu{});
    case Dtype::kF64:
      return body.template operator()<double>(Cpu{});
    default:
      fail(ErrorKind::kDtype, "expected f32 or f64, got ", x.dtype());
  }
}

}  // namespace engine
