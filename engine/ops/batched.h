#pragma once

#include "engine/core/precision.h"
#include "engine/core/tape.h"

// Batches of matrices: the leading axis counts them. A matrix's bits do not depend on the others.
namespace engine {

// y[b] = a[b] x[b]
//
//   a  (B, M, K), x (B, K, N), f32, f64, or on CUDA bf16 (both of them, and kBf16)
//   returns  (B, M, N)
//
// Gradient: da[b] = dy[b] x[b]^T, dx[b] = a[b]^T dy[b]. In bf16 (not f64) all three products round
// their operands; stored in bf16, y and the gradients are bf16 as well. Throws Error(kShape),
// Error(kValue) if a is not on a tape, Error(kDtype) for f64 in bf16.
Tensor batched_matmul(const Tensor& a, const Tensor& x, Precision precision = Precision::kF32);

// The last two axes exchanged: y[..., j, i] = x[..., i, j]
//
//   x        (M, N) or (B, M, N)  f32 or f64
//   returns  (N, M) or (B, N, M)
//
// Gradient: dx[..., i, j] = dy[..., j, i]. Throws Error(kShape), Error(kValue).
Tensor transpose(const Tensor& x);

}  // namespace engine
