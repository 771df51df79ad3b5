#pragma once

#include <cstdint>
#include <vector>

#include "train/attacks/attacked_model.h"
#include "train/attacks/ordered_network.h"
#include "train/attacks/victims.h"

namespace train {

// What an attack did to the routing of a model with experts, over the images that were right at
// first: sums, so that batches add up. A token is what has a route: a patch (or class token), or of
// a residual network an image.
struct RoutingChanges {
  struct Layer {
    double change = 0;  // over tokens, of 1 - |A and B| / |A or B|, experts before and after
    int64_t flips = 0;  // tokens whose first choice is another
    int64_t tokens = 0;
  };
  std::vector<Layer> layers;  // by MoE layer; empty for models that choose no experts
  // Images that stay right if each token keeps the experts and weights of the image without the
  // attack, in all layers.
  int64_t frozen_right = 0;
};

// Looks at batch after batch. Of models that choose experts (Network::chooses_experts).
class RoutingWatcher {
 public:
  RoutingWatcher(const Network& network, const Config& config);

  // A batch before attacks. Adds to `share`, for each image that is not broken, the routers' share
  // of the gradient g of the loss there: |r| / (|r| + |g - r|) with l2 norms, r the part of g that
  // went by way of routers' weights; 0 where both are 0.
  void begin(const Victims& clean, double& share);
  // What an attack made of that batch.
  void add(const Victims& clean, const Victims& attacked, RoutingChanges& changes);

 private:
  void remember();
  void compare(const Victims& clean, RoutingChanges& changes);

  OrderedNetwork network_;
  AttackedModel model_;
  // Of the batch at hand without an attack, by layer.
  struct Kept {
    int64_t layer, choices;
    std::vector<int32_t> chosen, expert;
    engine::Buffer fixed_choice, fixed_weight;  // where the model is, for its orders
  };
  std::vector<Kept> kept_;
  std::vector<float> gradient_, without_;
};

}  // namespace train
