#pragma once

#include "engine/core/tape.h"

// Batches of matrices: the leading axis counts them. A matrix's bits do not depend on the others.
namespace engine {

// y[b] = a[b] x[b]
//
//   a  (B, M, K), x (B, K, N), f32 or f64
//   returns  (B, M, N)
//
// Gradient: da[b] = dy[b] x[b]^T, dx[b] = a[b]^T dy[b]. Throws Error(kShape), and Error(kValue) if
// a is not on a tape.
Tensor batched_matmul(const Tensor& a, const Tensor& x);

// The last two axes exchanged: y[..., j, i] = x[..., i, j]
//
//   x        (M, N) or (B, M, N)  f32 or f64
//   returns  (N, M) or (B, N, M)
//
// Gradient: dx[..., i, j] = dy[..., j, i]. Throws Error(kShape), Error(kValue).
Tensor transpose(const Tensor& x);

}  // namespace engine
