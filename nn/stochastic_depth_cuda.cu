#include "engine/core/cuda_launch.cuh"
#include "engine/core/rng.cuh"
#include "nn/stochastic_depth_kernels.h"

namespace nn::kernels {

void put_depth_factors(engine::Cuda on, const engine::StepKey& key, const int64_t* ids, double rate,
                       int64_t count, float* factors) {
  const auto kept = static_cast<float>(1 / (1 - rate));
  engine::launch_each(on, count, [=] __device__(int64_t n) {
    factors[n] = key.at().uniform(static_cast<uint64_t>(ids[n])) < rate ? 0.0f : kept;
  });
}

}  // namespace nn::kernels
