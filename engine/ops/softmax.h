#pragma once

#include "engine/core/tape.h"

namespace engine {

// Softmax over the last axis:  y[r,c] = exp(x[r,c] - max_c x[r,:]) / sum_c exp(...)
//
//   x        (..., C)  f32 or f64, CPU or CUDA
//   returns  (..., C)  same shape, dtype and device; every row sums to 1
//
// Gradient: dx[r,c] = y[r,c] * (dy[r,c] - sum_c y[r,c] * dy[r,c]). Saves y, not x.
// Rows need at least one finite entry. A -inf entry gets a probability below 1e-37.
// Deterministic; a row's bits do not depend on its neighbours.
//
// Throws Error(kShape) if x is rank 0 or C is 0, Error(kValue) if x is not on a tape.
Tensor softmax(const Tensor& x);

}  // namespace engine
