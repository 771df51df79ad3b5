#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/config.h"
#include "train/evaluate.h"

namespace train {

// What one MoE layer did with the patches of some images at each strength of noise.
struct NoiseRoutesLayer {
  int64_t layer = 0, experts = 0, top_k = 0, capacity = 0;
  bool expert_choice = false;
  // (levels, images, patches, 2): the two largest gates, ties to the lower expert, and whose they
  // are; -1 where there is one expert only.
  std::vector<int16_t> experts_of;
  std::vector<float> gates;
  std::vector<uint8_t> dropped;  // (levels, images, patches), bit j: choice j < K found no slot
  std::vector<float> logits;     // (images, tokens, E) of the router, without noise
};

// Where images go on a straight way into noise: `levels` equal steps along the direction that
// audits use (audit/noise_direction.h), from none to `sigma`.
struct NoiseRoutes {
  std::vector<double> sigmas;  // (levels)
  bool class_token = true;
  int64_t images = 0, patches = 0, classes = 0;
  std::vector<NoiseRoutesLayer> layers;
  std::vector<double> probabilities;  // (levels, images, classes)
  std::vector<double> logit_steps;    // (levels - 1, images): |change of the class logits|
  std::vector<std::string> pictures;  // (images): what the model sees, a data URI
  std::vector<uint64_t> noise_keys;   // (images): the RngKey of the direction
  std::vector<int32_t> labels;        // (images)
};

// Error(kValue) for fewer than two levels, a sigma that is not above 0, more than 32767 experts,
// experts that take parts of all tokens (Soft MoE), and outputs that are not finite.
NoiseRoutes follow_noise(Inference& inference, const Config& config, const data::Dataset& dataset,
                         const std::vector<int64_t>& chosen, uint64_t seed, int64_t levels,
                         double sigma);

// A data URI: PNG for small pictures, JPEG of quality 90 above 64 pixels a side.
std::string data_uri(const data::ImageU8& picture);

}  // namespace train
