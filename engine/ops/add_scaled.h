#pragma once

#include <span>

#include "engine/core/tape.h"

namespace engine {

// y[n] = x[n] + factor[n] * branch[n] for the images n of a batch; where factor[n] is 0, y[n] is
// x[n], whatever the branch holds.
//
//   x, branch  (N, ...)  f32 or f64, on CUDA also bf16; x on a tape
//   factors    (N)       finite; of the host, copied before the call returns
//   returns    (N, ...)
//
// Gradient: dx = dy (handed over without a copy where it can be), dbranch[n] = factor[n] dy[n].
// Saves the factors. One multiply-add an element.
//
// Throws Error(kShape) where the shapes differ or there are not N factors, Error(kValue) for a
// factor that is not finite or where x is not on a tape.
Tensor add_scaled(const Tensor& x, const Tensor& branch, std::span<const float> factors);
// The same with factors (N) f32 where x is, finite, which nobody looks at.
Tensor add_scaled(const Tensor& x, const Tensor& branch, const Tensor& factors);

}  // namespace engine
