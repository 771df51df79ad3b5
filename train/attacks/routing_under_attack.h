#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/attacks/attacked_model.h"
#include "train/attacks/ordered_network.h"
#include "train/attacks/victims.h"

namespace train {

// What attacks do to the routing of a model with experts, over the images that were right at first.
// A token is what has a route: a patch (or class token), or of a residual network an image.
struct RoutingFigures {
  struct Layer {
    std::string name;   // "block 5", "layer4.1"
    double change = 0;  // mean over tokens of 1 - |A and B| / |A or B|, experts before and after
    double flips = 0;   // share of tokens whose first choice is another
  };
  struct Attack {
    std::vector<Layer> layers;
    // Images that stay right if each token keeps the experts and weights of the image without the
    // attack, in all layers; beside AttackFigures::robust, with free routing.
    int64_t frozen_right = 0;
  };
  // Of the gradient of the loss at the image, mean over images: |r| / (|r| + |g - r|) with l2
  // norms, g the gradient and r the part that went by way of routers' weights. 0 where both are 0.
  double router_gradient_share = 0;
  std::vector<Attack> attacks;
};

// Looks at batch after batch. Of models that choose experts (Network::chooses_experts).
class RoutingWatcher {
 public:
  RoutingWatcher(const Network& network, const Config& config, size_t attacks);

  // A batch before attacks, `broken` of which are wrong anyway; then each attack's images of it.
  void begin(const Victims& clean);
  void add(size_t attack, const Victims& clean, const Victims& attacked);

  // Sums so far, which may be kept and put back to continue later.
  struct Sums {
    int64_t images = 0;
    double gradient_share = 0;
    struct Layer {
      double change = 0;
      int64_t flips = 0, tokens = 0;
    };
    std::vector<std::vector<Layer>> layers;  // by attack
    std::vector<int64_t> frozen_right;       // by attack
  };
  const Sums& sums() const { return sums_; }
  void restore(const Sums& sums) { sums_ = sums; }
  RoutingFigures figures() const;

 private:
  void remember();
  void compare(size_t attack, const Victims& clean);

  OrderedNetwork network_;
  AttackedModel model_;
  Sums sums_;
  // Of the batch at hand without an attack, by layer.
  struct Kept {
    int64_t layer, choices;
    std::vector<int32_t> chosen, expert;
    std::vector<float> weight;
  };
  std::vector<Kept> kept_;
  std::vector<float> gradient_, without_;
};

}  // namespace train
