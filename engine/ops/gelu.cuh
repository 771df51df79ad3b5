#pragma once

#include "engine/ops/gelu_math.h"

// GELU on the device, by the formulas of core/simd_gelu.h. CUDA sources only.
namespace engine::kernels {

template <class T>
__device__ T gelu(T x, GeluForm form) {
  if (form == GeluForm::kErf) return x * T(0.5) * (T(1) + erf(x * T(0.70710678118654752)));
  const T inner = T(kTwoSqrt2OverPi) * x + T(kTwoSqrt2OverPi * kGeluCubic) * x * x * x;
  return x / (T(1) + exp(-inner));
}

// d gelu(x) / dx.
template <class T>
__device__ T gelu_slope(T x, GeluForm form) {
  if (form == GeluForm::kErf) {
    const T cdf = T(0.5) * (T(1) + erf(x * T(0.70710678118654752)));
    return cdf + x * T(0.39894228040143268) * exp(T(-0.5) * x * x);
  }
  const T inner = T(kTwoSqrt2OverPi) * x + T(kTwoSqrt2OverPi * kGeluCubic) * x * x * x;
  const T s = T(1) / (T(1) + exp(-inner));
  const T slope = T(kTwoSqrt2OverPi) + T(3 * kTwoSqrt2OverPi * kGeluCubic) * x * x;
  return s + x * slope * (s - s * s);
}

}  // namespace engine::kernels
