#pragma once

#include <span>

#include "engine/core/backend.h"

// Raw kernels of read_numbers.
namespace engine::kernels {

void copy_numbers(Cpu, std::span<const Tensor> tensors, double* out);
void copy_numbers(Cuda, std::span<const Tensor> tensors, double* out);  // out: host memory

}  // namespace engine::kernels
