#pragma once

#include "engine/core/tape.h"

namespace engine {

// Indices of the k largest entries of every row, largest first; ties go to the lower index.
//
//   x        (N, E)  f32 or f64
//   k        1 <= k <= E
//   returns  (N, k)  i32, not differentiable
//
// NaN counts as smaller than every number. Throws Error(kShape), Error(kValue).
Tensor top_k(const Tensor& x, int64_t k);

// The entries an index points at:  y[i,j] = x[i, index[i,j]], or 0 where the index is -1.
//
//   x        (N, E)  f32 or f64
//   index    (N, K)  i32, -1 <= index < E, no index twice in a row
//   returns  (N, K)
//
// Gradient: dx[i, index[i,j]] += dy[i,j]. Throws Error(kShape), Error(kValue); on CUDA nobody looks
// at what the indices are.
Tensor pick(const Tensor& x, const Tensor& index);

}  // namespace engine
