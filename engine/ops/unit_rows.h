#pragma once

#include "engine/core/tape.h"

namespace engine {

// Rows brought to length 1, then times a factor:
//   y[r,:] = factor * x[r,:] / sqrt(sum_c x[r,c]^2 + eps)
//
//   x        (..., C)  f32 or f64
//   factor   (1), or undefined for 1
//   returns  (..., C)
//
// Gradient, with g = dy and n = 1 / sqrt(sum x^2 + eps): dx = factor n (g - n^2 x sum_c x g),
// dfactor = sum_r n sum_c x g. Saves x and n. A row's bits do not depend on its neighbours, nor
// dfactor's on the number of threads.
//
// Throws Error(kShape) if x is rank 0 or factor is not one number, Error(kValue) if x is not on a
// tape.
Tensor unit_rows(const Tensor& x, const Tensor& factor = {}, double eps = 1e-6);

}  // namespace engine
