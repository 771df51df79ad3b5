#pragma once

#include "engine/core/precision.h"
#include "engine/core/tape.h"
#include "engine/ops/gelu_math.h"

namespace engine {

// What a linear layer does beyond the product.
struct LinearOptions {
  const Tensor* residual = nullptr;  // (..., N), added to the result
  bool gelu = false;                 // returns gelu(z) instead of z
  GeluForm form = GeluForm::kTanh;
  Precision precision = Precision::kF32;  // of the operands of all three products
};

// y = x W + bias (+ residual), or gelu(x W + bias), in one pass over memory.
//
//   x         (..., K)  f32, f64, or on CUDA bf16, where the precision must be kBf16; the residual
//                       and what is returned have x's type, weight and bias are f32 beside bf16
//   weight    (K, N)
//   bias      (N), or undefined for none
//   residual  (..., N)
//   returns   (..., N)
//
// Gradient, with dz = dy or dy * gelu'(z):  dx = dz W^T,  dW = x^T dz,  dbias = sum of the
// rows of dz,  dresidual = dy (handed over without a copy where it can be). Saves x and, for
// gelu, z. In bf16 (f32 tensors only) the products of forward and backward round their operands;
// the sums, the bias, GELU, the residual and dbias do not. A row's bits do not depend on its
// neighbours (gemm.h).
//
// Stored in bf16: y, z, dz and dx are bf16, dW and dbias f32. The weight is rounded once, into the
// arena, and read there by forward and backward; gemm.h says where else a sum may be rounded.
//
// Throws Error(kShape) when sizes do not fit, Error(kValue) if x is not on a tape or gelu and
// residual are asked for together, Error(kDtype) for f64 in bf16 and for tensors stored in bf16 on
// the CPU or with another precision.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const LinearOptions& options = {});

// The same with weights per group: rows offset[e] ... offset[e+1] of x go through expert e.
//
//   x       (S, K)
//   weight  (E, K, N), bias (E, N)
//   offset  (E+1) i32, offset[0] = 0, offset[E] = S, not decreasing. On CUDA, where only the device
//           reads it, offset[E] <= S: rows of no expert are zeros, forward and in dx
//   returns (S, N)
//
// An expert without rows gets zero gradients. The residual option is not offered here.
Tensor grouped_linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& offset, const LinearOptions& options = {});

}  // namespace engine
