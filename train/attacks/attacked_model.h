#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/arena.h"
#include "engine/core/buffer.h"
#include "engine/core/tape.h"
#include "engine/ops/cross_entropy.h"
#include "train/attacks/attack_loss.h"
#include "train/attacks/pixel_range.h"
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
// the others, unless predictions do (depends_on_neighbours). Passes run on the network's device.
class AttackedModel {
 public:
  AttackedModel(const Network& network, const Config& config);
  AttackedModel(const AttackedModel&) = delete;
  AttackedModel& operator=(const AttackedModel&) = delete;

  // From now on. In training mode running statistics move with each pass, and an image's numbers
  // may depend on the others.
  void set_pass(const AttackPass& pass) { pass_ = pass; }

  engine::Device device() const { return network_.device(); }
  int64_t pixels_per_image() const { return pixels_; }
  int64_t classes() const { return classes_; }

  // pixels (count, pixels_per_image) f32, on the device or the CPU. Returns (count, classes) on the
  // device, valid until the next pass. Waits for nothing.
  engine::Tensor logits(const engine::Tensor& pixels);
  // The same, and `gradient`, as large as `pixels`: for each image d(its loss) / d(its pixels), +-0
  // where the output does not depend on them. labels (count); targets (count), for kTargetedDlr.
  // Error(kValue) for a label outside the classes.
  engine::Tensor logits_and_gradient(const engine::Tensor& pixels, std::span<const int32_t> labels,
                                     const engine::Tensor& gradient,
                                     AttackLoss loss = AttackLoss::kClassification,
                                     std::span<const int32_t> targets = {});
  // The same of how far an image's prediction is from another one: of
  // KL(softmax(its row of `reference`) || softmax(its logits)), nn/loss/kl_divergence.h.
  // reference (count, classes), on the device or the CPU
  engine::Tensor logits_and_divergence(const engine::Tensor& pixels,
                                       const engine::Tensor& reference,
                                       const engine::Tensor& gradient);
  // Error(kValue) where logits or gradients of a pass since the last call are not finite. On the
  // CPU the passes look themselves.
  void check_finite();
  // The logits of the last pass on the host, after check_finite(); valid until the next pass.
  std::span<const float> fetch();

  // The same of pixels, gradients and logits on the host.
  std::span<const float> logits(std::span<const float> pixels);
  std::span<const float> logits_and_gradient(std::span<const float> pixels,
                                             std::span<const int32_t> labels,
                                             std::span<float> gradient,
                                             AttackLoss loss = AttackLoss::kClassification,
                                             std::span<const int32_t> targets = {});
  std::span<const float> logits_and_divergence(std::span<const float> pixels,
                                               std::span<const float> reference,
                                               std::span<float> gradient);
  // Of the pass just made, on the host, valid until the next; images that fill a group come last.
  const std::vector<moe::Routing>& routings();
  engine::CrossEntropy loss_kind() const;  // that the model was trained with

 private:
  // loss_of(logits), of all images and those that fill a group, is one number on their tape.
  template <class LossOf>
  engine::Tensor differentiate(const engine::Tensor& pixels, const engine::Tensor& gradient,
                               LossOf&& loss_of);
  int64_t begin_pass(const engine::Tensor& pixels);
  engine::Tensor normalised(const engine::Tensor& pixels);
  engine::Tensor classes_of(std::span<const int32_t> classes, int64_t images);
  engine::Tensor first_logits(int64_t count);
  void note_finite(const engine::Tensor& values, bool gradient);
  nn::Forward forward_pass();

  const Network& network_;
  const Config config_;
  int64_t pixels_, classes_;
  PixelRange range_;
  engine::StepArena arena_, host_arena_;
  engine::Tape tape_;
  moe::ModelOutput output_;
  std::vector<moe::Routing> routings_;  // of a GPU's pass, once they were asked for
  engine::Tensor logits_;
  AttackPass pass_;
  engine::Buffer seed_gradient_, not_finite_;  // not_finite_: how many logits, how many gradients
};

}  // namespace train
