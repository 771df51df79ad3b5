#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/evaluate.h"

namespace train {

// Where one token went, by decreasing gate. An expert that dropped it is not in the lists.
struct TokenRoute {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

struct LayerRoutes {
  int64_t layer = 0, experts = 0;  // 0-based block
  TokenRoute class_token;          // empty where the model has none
  std::vector<TokenRoute> patches;
};

// What a model makes of one image.
struct Prediction {
  std::vector<double> probabilities;  // (classes): softmax, or each class's sigmoid
  std::vector<LayerRoutes> layers;    // a MoE layer, in block order
};

// What a row of logits says: softmax, or each class's sigmoid where that is the loss.
std::vector<double> probabilities_of(const float* logits, int64_t classes, const Config& config);

// images (1, C, S, S) f32, normalised. Error(kValue) where the result is not finite.
Prediction predict(Inference& inference, const Config& config, const engine::Tensor& image);

// Classes by decreasing probability, ties to the lower; the first `most` of them.
std::vector<int64_t> best_classes(const Prediction& prediction, int64_t most);

// One token's way through one MoE layer, as text: logits, softmax, rank, what each chosen expert
// adds, and what would change the choice. `patch` is -1 for the class token. Error(kValue) for a
// block without experts or a patch that is not there.
std::string trace_token(const moe::ModelOutput& output, int64_t layer, int64_t patch);

}  // namespace train
