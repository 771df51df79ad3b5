#pragma once

#include "engine/core/tape.h"

namespace engine {

// y = x in another dtype, of any shape, between f32 and bf16 (stored.h: CUDA devices only), rounded
// to nearest, ties to even; x itself where it has that dtype. Gradient: dy in x's dtype, rounded
// in the same way. Error(kDtype) for other dtypes or on the CPU, Error(kValue) if x is not on a
// tape.
Tensor cast(const Tensor& x, Dtype dtype);

}  // namespace engine
