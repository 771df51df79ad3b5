#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "engine/core/rng.h"
#include "train/config.h"
#include "train/model.h"

namespace train::test {

// The config of a V-MoE of two blocks with 4 experts each, or of the residual network that
// `settings` name, adapted to a data set; single values changed by `settings`, "moe.experts=1".
inline Config small_config(const data::Dataset& dataset, const std::vector<std::string>& settings) {
  Config config;
  const auto residual = [](const std::string& s) { return s.starts_with("model.kind=resnet"); };
  if (!std::ranges::any_of(settings, residual)) {  // validate() refuses them of such a network
    for (const char* setting : {"model.width=16", "model.mlp=24", "model.heads=2", "model.layers=2",
                                "model.patch=4", "moe.layers=0,1"}) {
      set_value(config, setting);
    }
  }
  for (const char* setting :
       {"moe.experts=4", "moe.top_k=2", "augment.area_min=0.5", "eval.batch=16", "train.steps=1"}) {
    set_value(config, setting);
  }
  for (const std::string& setting : settings) set_value(config, setting);
  adapt_to_data(config, dataset.info());
  return config;
}

// Such a model with random weights, larger than a fresh one's so that routers are decided.
struct SmallModel {
  SmallModel(const std::string& data, const std::vector<std::string>& settings)
      : test(data::open_dataset(data, data::Split::kTest)),
        config(small_config(*test, settings)),
        model(config, false) {
    const engine::Tensor weights = model.params.slab(engine::Slab::kValue);
    float* w = weights.data<float>();
    const engine::RngKey key(1, engine::Purpose::kTest);
    for (int64_t i = 0; i < weights.numel(); ++i) {
      w[i] = 2 * w[i] + 0.1f * static_cast<float>(key.normal(static_cast<uint64_t>(i)));
    }
  }

  std::unique_ptr<data::Dataset> test;
  Config config;
  Model model;
};

}  // namespace train::test
