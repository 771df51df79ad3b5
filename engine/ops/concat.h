#pragma once

#include <span>

#include "engine/core/tape.h"

namespace engine {

// Tensors one behind the other along the leading axis: (n_0, ...), (n_1, ...) to (n_0 + n_1, ...).
// At least one; f32 or f64, on CUDA also bf16, all alike and on one tape. Gradient: its rows of dy
// to each. Throws Error(kShape) when further axes differ, Error(kValue) for none or one that is on
// no tape.
Tensor concat(std::span<const Tensor> parts);

}  // namespace engine
