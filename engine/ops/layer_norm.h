#pragma once

#include "engine/core/tape.h"

namespace engine {

// Layer normalisation over the last axis:
//   y[r,c] = (x[r,c] - mean_r) * rstd_r * scale[c] + bias[c],  rstd_r = 1/sqrt(var_r + eps)
// with the population variance of the row, computed around its mean (two passes).
//
//   x            (..., C)  f32 or f64, on CUDA also bf16
//   scale, bias  (C)  of the same dtype; f32 beside bf16, as are mean and rstd
//   returns      (..., C)
//
// Gradient, with n = (x - mean) * rstd and g = dy * scale:
//   dx = rstd * (g - mean_c(g) - n * mean_c(g n)),  dscale = sum_r dy n,  dbias = sum_r dy.
// Saves x, mean and rstd. Sums over rows are cut into a fixed number of chunks, so the bits
// do not depend on threads; a row's output does not depend on its neighbours.
//
// Throws Error(kShape) on rank 0, C = 0 or parameters of another size, Error(kValue) if x is
// not on a tape or eps is not positive.
Tensor layer_norm(const Tensor& x, const Tensor& scale, const Tensor& bias, double eps = 1e-6);

}  // namespace engine
