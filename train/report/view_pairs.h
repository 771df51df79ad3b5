#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/config.h"
#include "train/evaluate.h"

namespace train {

// Two augmented views of some images, those that an audit with the same seed compares, and what the
// routers made of them.
struct ViewPairs {
  int64_t images = 0, patches = 0;
  std::vector<std::string> pictures;  // (images, 2): data URIs
  std::vector<int32_t> match;         // (images, patches): patch of view 2, or -1
  std::vector<uint8_t> flat;          // (images, 2, patches): of one colour, left out of audits
  struct Layer {
    int64_t layer = 0, experts = 0;
    std::vector<float> clean;  // (images, 2, patches, E) router probabilities without noise
  };
  std::vector<Layer> layers;
};

ViewPairs look_at_views(Inference& inference, const Config& config, const data::Dataset& dataset,
                        const std::vector<int64_t>& chosen, uint64_t seed);

}  // namespace train
