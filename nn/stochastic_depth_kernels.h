#pragma once

#include "engine/core/backend.h"
#include "engine/core/step_key.h"

// Raw kernel of stochastic depth: the CPU draws in stochastic_depth.cc.
namespace nn::kernels {

// factors[n] = number ids[n] of the key < rate ? 0 : 1 / (1 - rate), n < count; the bits of the
// CPU.
void put_depth_factors(engine::Cuda, const engine::StepKey& key, const int64_t* ids, double rate,
                       int64_t count, float* factors);

}  // namespace nn::kernels
