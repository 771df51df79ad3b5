#pragma once

#include <cstdint>
#include <vector>

#include "data/loader.h"
#include "train/config.h"
#include "train/evaluate.h"

namespace train {

// What happens on a straight way from each image into noise: `steps` equal steps along one
// direction (noise_direction.h) up to `sigma`. Where the experts chosen for a token change, the
// output jumps; noise that is drawn anew for every strength hides that behind its own changes.
struct NoisePathFigures {
  double sigma = 0;
  int64_t steps = 0, n_images = 0;
  // |logits after a step - logits before it|: mean over the steps of an image, and its largest;
  // both as means over images.
  double mean_logit_step = 0, mean_logit_step_se = 0;
  double largest_logit_step = 0, largest_logit_step_se = 0;
  // A MoE layer: how often the set of experts of a patch changes on the way, mean over patches, and
  // its error with images as clusters.
  std::vector<double> set_changes, set_changes_se;
};

class NoisePath {
 public:
  // Error(kValue) for fewer than one step or a sigma that is not positive.
  NoisePath(const Config& config, uint64_t seed, int64_t steps, double sigma);
  // A batch of single views.
  void add(Inference& inference, const data::Batch& batch);
  NoisePathFigures figures() const;

 private:
  // Sums over images of a number and its square.
  struct Sum {
    double x = 0, square = 0;
    void add(double value) {
      x += value;
      square += value * value;
    }
    double error(int64_t n) const;
  };
  void look(const moe::ModelOutput& out, int64_t images, bool first);

  Config config_;
  uint64_t seed_;
  int64_t steps_;
  double sigma_;
  int64_t images_ = 0;
  Sum mean_step_, largest_step_;
  std::vector<Sum> changes_;  // a MoE layer: changes a patch of an image
  // Of the batch at hand.
  std::vector<float> directions_, noisy_, logits_;
  std::vector<double> step_sum_, step_largest_;  // (images)
  std::vector<std::vector<int32_t>> sets_;       // a layer: (images * tokens, K), sorted rows
  std::vector<std::vector<int64_t>> counts_;     // a layer: (images) changes
};

}  // namespace train
