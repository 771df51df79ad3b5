#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/attacks/attacked_model.h"
#include "train/attacks/ball.h"
#include "train/config.h"

namespace train {

// Makes the adversarial images that a step of adversarial training learns from
// (spec robust-sparse-moes 4), of config.adversarial:
//
//   pgd     x_0 uniform in the ball of eps around the image;
//           x_{t+1} = project(x_t + step * sign(g)), `steps` times, g the gradient of the
//           classification loss alone
//   fast    one such step; with drop_start, as published, project(image + step * sign(g(x_0)))
//   trades  x_0 = image + 0.001 N(0, 1), not projected, as published (Zhang et al. 2019); steps as
//           of pgd, g the gradient of KL(softmax of the image's logits || softmax of x_t's), the
//           former of one pass before the first step
//
// in [0, 1] pixels with normalisation inside the model. attack_mode "eval": running statistics, no
// router noise, no dropout. "train", as published: the network as in training, with the batch's
// statistics, noise and training capacity; every pass moves running statistics and draws noise of
// its own. Starts are keyed by (seed, step, place of the image in the step), so micro-batches draw
// what one batch would; they are drawn on the CPU, and the same for every device.
class Adversary {
 public:
  Adversary(const Config& config, const Network& network);

  // images (B, C, S, S), as the loader normalises them, on the CPU; labels and sample_ids (B). The
  // adversarial ones, normalised, on the network's device; valid until the next call. Weights and
  // their gradients stay as they are. Error(kValue) where logits or gradients are not finite.
  engine::Tensor perturb(const engine::Tensor& images, std::span<const int32_t> labels,
                         int64_t step, std::span<const int64_t> sample_ids);

  // Does a step learn from the images themselves as well (trades)? The pass on the adversarial
  // ones then has this seed in the place of the run's.
  bool keeps_images() const { return trades_; }
  uint64_t second_seed() const { return pass_seed(steps_); }

 private:
  // Of the random numbers of a pass: those of the attack, then the training step's second pass,
  // then the one that looks at the images as they are.
  uint64_t pass_seed(int64_t pass) const;
  void start(int64_t step, std::span<const int64_t> sample_ids);
  void climb(const engine::Tensor& clean, const engine::Tensor& x, const engine::Tensor& gradient,
             const double* lengths);

  Config config_;
  Ball ball_;
  double length_;
  int64_t steps_;
  bool trades_;
  AttackedModel model_;
  PixelRange host_range_, range_;
  engine::StepArena arena_;  // what a call makes, on the device
  std::vector<float> clean_, x_;
  std::vector<double> lengths_;
};

}  // namespace train
