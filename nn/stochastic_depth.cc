#include "nn/stochastic_depth.h"

#include <vector>

#include "engine/ops/add_scaled.h"

namespace nn {

using engine::Tensor;

Tensor StochasticDepth::join(Forward& f, const Tensor& x, const Tensor& output) const {
  if (!active(f)) return output;
  const int64_t images = x.shape()[0];
  engine::check(static_cast<int64_t>(f.sample_ids.size()) == images, engine::ErrorKind::kValue,
                "stochastic depth needs the ids of ", images, " images, got ", f.sample_ids.size());
  const engine::RngKey key = engine::RngKey(f.seed, engine::Purpose::kStochasticDepth)
                                 .with(static_cast<uint64_t>(f.step))
                                 .with(static_cast<uint64_t>(branch_));
  const Tensor factors = f.tape.arena().empty({images}, engine::Dtype::kF32);
  const auto kept = static_cast<float>(1 / (1 - rate_));
  for (int64_t n = 0; n < images; ++n) {
    const bool skips = key.uniform(static_cast<uint64_t>(f.sample_ids[n])) < rate_;
    factors.data<float>()[n] = skips ? 0.0f : kept;
  }
  return engine::add_scaled(x, output, {factors.data<const float>(), static_cast<size_t>(images)});
}

double stochastic_depth_of(double rate, int64_t block, int64_t blocks) {
  return blocks > 1 ? rate * static_cast<double>(block) / static_cast<double>(blocks - 1) : 0;
}

}  // namespace nn
