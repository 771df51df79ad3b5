#pragma once

#include <span>

#include "engine/core/tensor.h"

namespace engine {

// The elements of all tensors (f32 or f64, few of them), one after the other, as f64 on the host;
// out.size() is their number. For figures of logs: from a GPU one copy for all of them, which waits
// for what is being computed there. All tensors are on one device. Error(kShape, kDtype).
void read_numbers(std::span<const Tensor> tensors, std::span<double> out);

}  // namespace engine
