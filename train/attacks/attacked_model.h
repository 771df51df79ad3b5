#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/arena.h"
#include "engine/core/buffer.h"
#include "engine/core/tape.h"
#include "engine/ops/cross_entropy.h"
#include "train/attacks/attack_loss.h"
#include "train/config.h"
#include "train/network.h"

namespace train {

// How an attack runs the network: in evaluation mode, unless said otherwise.
struct AttackPass {
  nn::Mode mode = nn::Mode::kEval;
  // Of training mode only: keys of random numbers, one id an image.
  uint64_t seed = 0;
  int64_t step = 0;
  std::span<const int64_t> sample_ids = {};
};

// What an attack sees of a model: class logits, and gradients with respect to the pixels, of images
// whose pixels are in [0, 1]; normalisation is inside. Evaluation mode: no router noise, no
// dropout, and neither weights nor their gradients are touched. An image's numbers do not depend on
// the others, unless predictions do (depends_on_neighbours).
class AttackedModel {
 public:
  AttackedModel(const Network& network, const Config& config);
  AttackedModel(const AttackedModel&) = delete;
  AttackedModel& operator=(const AttackedModel&) = delete;

  // From now on. In training mode running statistics move with each pass, and an image's numbers
  // may depend on the others.
  void set_pass(const AttackPass& pass) { pass_ = pass; }

  int64_t pixels_per_image() const { return pixels_; }
  int64_t classes() const { return classes_; }

  // pixels (count * pixels_per_image). Returns (count, classes), valid until the next call.
  std::span<const float> logits(std::span<const float> pixels);

  // The same, and `gradient`, as large as `pixels`: for each image d(its loss) / d(its pixels), +-0
  // where the output does not depend on them. labels (count); targets (count), for kTargetedDlr.
  // Error(kValue) for a label outside the classes, and for logits or gradients that are not finite.
  std::span<const float> logits_and_gradient(std::span<const float> pixels,
                                             std::span<const int32_t> labels,
                                             std::span<float> gradient,
                                             AttackLoss loss = AttackLoss::kClassification,
                                             std::span<const int32_t> targets = {});
  // The same of how far an image's prediction is from another one: of
  // KL(softmax(its row of `reference`) || softmax(its logits)), nn/loss/kl_divergence.h.
  // reference (count, classes)
  std::span<const float> logits_and_divergence(std::span<const float> pixels,
                                               std::span<const float> reference,
                                               std::span<float> gradient);
  // Of the pass just made, valid until the next; images that fill a group come last.
  const std::vector<moe::Routing>& routings() const { return output_.routings; }
  engine::CrossEntropy loss_kind() const;  // that the model was trained with

 private:
  // loss_of(logits), of all images and those that fill a group, is one number on their tape.
  template <class LossOf>
  std::span<const float> differentiate(std::span<const float> pixels, std::span<float> gradient,
                                       LossOf&& loss_of);
  engine::Tensor normalised(std::span<const float> pixels);
  nn::Forward forward_pass();

  const Network& network_;
  const Config config_;
  int64_t pixels_, classes_;
  engine::StepArena arena_;
  engine::Tape tape_;
  engine::Buffer images_, gradients_;
  std::vector<int32_t> labels_, targets_;
  std::vector<float> reference_;
  moe::ModelOutput output_;
  AttackPass pass_;
  float seed_ = 1;
};

}  // namespace train
