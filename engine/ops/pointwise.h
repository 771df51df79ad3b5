#pragma once

#include "engine/core/tape.h"

namespace engine {

// One family of element-by-element ops; all tensors (any shape), f32 or f64, on
// CUDA also bf16: computed in f32 and rounded.
// Throws Error(kShape) when shapes differ, Error(kValue) if the first is not on a tape.

// y = x + other. Gradient: dy to each that wants one.
Tensor add(const Tensor& x, const Tensor& other);

// y = factor * x. Gradient: factor * dy.
Tensor scale(const Tensor& x, double factor);

// y = x * other. Gradient: dx = dy * other, dother = dy * x. `other` is f32 where x is bf16, as is
// dother.
Tensor multiply(const Tensor& x, const Tensor& other);

// y = max(x, 0), NaN for NaN. Gradient: dy where y > 0, else 0 (also at 0). Saves y.
Tensor relu(const Tensor& x);

// y = tanh(x). Gradient: dy (1 - y^2). Saves y.
Tensor tanh(const Tensor& x);

// y = x rounded to the nearest bf16, ties to even, kept in x's dtype: what a bf16 buffer does to
// numbers that pass through it. Gradient: dy rounded in the same way, as of a cast there and
// back. An f64 is first rounded to f32. A tensor stored in bf16 is returned as it is.
Tensor round_bf16(const Tensor& x);

// The same elements under another shape of equal count, without a copy. Gradient: dy
// under x's shape, handed over without a copy where it can be.
Tensor reshape(const Tensor& x, const Shape& shape);

// Rows [begin, end) of the leading axis, without a copy. Gradient: zeros elsewhere; slices
// of one tensor add up.
Tensor slice(const Tensor& x, int64_t begin, int64_t end);

}  // namespace engine
