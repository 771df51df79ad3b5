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

// Such a model with random weights, larger than a fresh one's so that predictions and routers are
// decided: all of a V-MoE; of a residual network the last layer and the routers, or its logits
// would be so large that no loss had a gradient.
struct SmallModel {
  SmallModel(const std::string& data, const std::vector<std::string>& settings)
      : test(data::open_dataset(data, data::Split::kTest)),
        config(small_config(*test, settings)),
        model(config, false) {
    const engine::RngKey key(1, engine::Purpose::kTest);
    for (const auto& entry : model.params.entries()) {
      const float times = entry.path.ends_with("router.weight") ? 200
                          : entry.path.starts_with("fc.")       ? 10
                                                                : 1;
      float* w = model.params.view(entry, engine::Slab::kValue).data<float>();
      for (int64_t i = 0; i < entry.shape.numel(); ++i) {
        const auto normal = static_cast<float>(key.normal(static_cast<uint64_t>(entry.offset + i)));
        w[i] = is_vit(config) ? 2 * w[i] + 0.1f * normal : times * w[i];
      }
    }
  }

  std::unique_ptr<data::Dataset> test;
  Config config;
  Model model;
};

}  // namespace train::test
