#include "nn/stochastic_depth.h"

#include <span>

#include "engine/core/workspace.h"
#include "engine/ops/add_scaled.h"
#include "nn/draws.h"
#include "nn/stochastic_depth_kernels.h"

namespace nn {

using engine::Tensor;

Tensor StochasticDepth::join(Forward& f, const Tensor& x, const Tensor& output) const {
  if (!active(f)) return output;
  const int64_t images = x.shape()[0];
  engine::check(static_cast<int64_t>(f.sample_ids.size()) == images, engine::ErrorKind::kValue,
                "stochastic depth needs the ids of ", images, " images, got ", f.sample_ids.size());
  const engine::StepKey where =
      step_key(f, engine::Purpose::kStochasticDepth).with(static_cast<uint64_t>(branch_));
  if constexpr (engine::kCudaEnabled) {
    if (x.device() == engine::Device::kCuda) {
      const Tensor factors = f.tape.arena().empty({images}, engine::Dtype::kF32);
      kernels::put_depth_factors(engine::cuda_backend(), where, sample_ids(f), rate_, images,
                                 factors.data<float>());
      return engine::add_scaled(x, output, factors);
    }
  }
  const engine::RngKey key = where.at();
  const std::span factors(engine::workspace<float>(3, images), static_cast<size_t>(images));
  const auto kept = static_cast<float>(1 / (1 - rate_));
  for (int64_t n = 0; n < images; ++n) {
    const bool skips = key.uniform(static_cast<uint64_t>(f.sample_ids[n])) < rate_;
    factors[static_cast<size_t>(n)] = skips ? 0.0f : kept;
  }
  return engine::add_scaled(x, output, factors);
}

double stochastic_depth_of(double rate, int64_t block, int64_t blocks) {
  return blocks > 1 ? rate * static_cast<double>(block) / static_cast<double>(blocks - 1) : 0;
}

}  // namespace nn
