#include "train/attacks/attacked_model.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "nn/loss/kl_divergence.h"
#include "train/attacks/pixel_range.h"
#include "train/evaluate.h"
#include "train/model.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// Images that fill the last routing group, as in evaluation: of zeros, for nobody.
int64_t with_whole_groups(const Network& network, int64_t count) {
  const int64_t group = network.dependent_images();
  return group > 0 ? (count + group - 1) / group * group : count;
}

void resize(engine::Buffer& buffer, const engine::Shape& shape) {
  if (buffer.tensor().defined() && buffer.tensor().shape() == shape) return;
  buffer = engine::Buffer(shape, engine::Dtype::kF32, engine::Device::kCpu);
}

void check_finite(std::span<const float> values, const char* what) {
  check(std::ranges::all_of(values, [](float x) { return std::isfinite(x); }), ErrorKind::kValue,
        "attack: the model's ", what, " are not finite: its weights have diverged");
}

}  // namespace

AttackedModel::AttackedModel(const Network& network, const Config& config)
    : network_(network),
      config_(config),
      pixels_(config.model.channels * config.model.image_size * config.model.image_size),
      classes_(config.model.classes),
      tape_(arena_) {}

// A copy in images_, normalised as the loader does; what is beyond `pixels` is zero.
Tensor AttackedModel::normalised(std::span<const float> pixels) {
  const auto count = static_cast<int64_t>(pixels.size()) / pixels_;
  check(count > 0 && static_cast<int64_t>(pixels.size()) == count * pixels_, ErrorKind::kShape,
        "attack: ", pixels.size(), " pixels for images of ", pixels_);
  const int64_t size = config_.model.image_size;
  resize(images_, {with_whole_groups(network_, count), config_.model.channels, size, size});
  float* to = images_.data<float>();
  std::fill(to + count * pixels_, to + images_.tensor().numel(), 0.0f);
  normalise_pixels(config_, pixels, {to, pixels.size()});
  return images_.tensor();
}

nn::Forward AttackedModel::forward_pass() {
  return {.tape = tape_,
          .mode = pass_.mode,
          .param_grads = false,
          .precision = network_.precision(),
          .seed = pass_.seed,
          .step = pass_.step,
          .sample_ids = pass_.sample_ids};
}

engine::CrossEntropy AttackedModel::loss_kind() const { return classification_loss(config_); }

std::span<const float> AttackedModel::logits(std::span<const float> pixels) {
  tape_.clear();
  arena_.reset();
  nn::Forward f = forward_pass();
  network_.forward(f, tape_.input(normalised(pixels)), output_);
  const std::span<const float> logits(
      output_.logits.data<const float>(),
      pixels.size() / static_cast<size_t>(pixels_) * static_cast<size_t>(classes_));
  check_finite(logits, "logits");
  return logits;
}

template <class LossOf>
std::span<const float> AttackedModel::differentiate(std::span<const float> pixels,
                                                    std::span<float> gradient, LossOf&& loss_of) {
  check(gradient.size() == pixels.size(), ErrorKind::kShape, "attack: gradients of ",
        gradient.size(), " for ", pixels.size(), " pixels");
  tape_.clear();
  arena_.reset();
  const Tensor images = normalised(pixels);
  resize(gradients_, images.shape());
  std::fill_n(gradients_.data<float>(), images.numel(), 0.0f);
  nn::Forward f = forward_pass();
  network_.forward(f, tape_.leaf(images, gradients_.tensor()), output_);
  tape_.backward(loss_of(output_.logits),
                 Tensor(&seed_, {1}, engine::Dtype::kF32, engine::Device::kCpu));
  const int64_t plane = config_.model.image_size * config_.model.image_size;
  const float* from = gradients_.data<float>();
  for (size_t i = 0; i < pixels.size(); ++i) {
    const int64_t channel = static_cast<int64_t>(i) / plane % config_.model.channels;
    gradient[i] = from[i] * static_cast<float>(pixel_unit(config_, channel));
  }
  check_finite(gradient, "gradients");
  const std::span<const float> logits(
      output_.logits.data<const float>(),
      pixels.size() / static_cast<size_t>(pixels_) * static_cast<size_t>(classes_));
  check_finite(logits, "logits");
  return logits;
}

std::span<const float> AttackedModel::logits_and_gradient(std::span<const float> pixels,
                                                          std::span<const int32_t> labels,
                                                          std::span<float> gradient,
                                                          AttackLoss loss,
                                                          std::span<const int32_t> targets) {
  const auto count = static_cast<int64_t>(labels.size());
  check(gradient.size() == pixels.size() && count * pixels_ == static_cast<int64_t>(pixels.size()),
        ErrorKind::kShape, "attack: ", labels.size(), " labels and gradients of ", gradient.size(),
        " for ", pixels.size(), " pixels");
  const bool targeted = loss == AttackLoss::kTargetedDlr;
  check(!targeted || targets.size() == labels.size(), ErrorKind::kShape, "attack: ", targets.size(),
        " targets for ", labels.size(), " images");
  return differentiate(pixels, gradient, [&](const Tensor& logits) {
    // Images that only fill a group have class 0; nobody reads their gradient.
    const int64_t images = logits.shape()[0];
    const auto filled = [images](std::vector<int32_t>& to, std::span<const int32_t> from) {
      to.assign(from.begin(), from.end());
      to.resize(static_cast<size_t>(images), 0);
      return Tensor(to.data(), {images}, engine::Dtype::kI32, engine::Device::kCpu);
    };
    const Tensor right = filled(labels_, labels);
    // A sum, so that an image's gradient knows nothing of how many there are.
    return loss == AttackLoss::kClassification
               ? engine::cross_entropy(logits, right, loss_kind(), 1)
               : dlr_loss(logits, right, targeted ? filled(targets_, targets) : Tensor{});
  });
}

std::span<const float> AttackedModel::logits_and_divergence(std::span<const float> pixels,
                                                            std::span<const float> reference,
                                                            std::span<float> gradient) {
  const size_t count = pixels.size() / static_cast<size_t>(pixels_);
  check(reference.size() == count * static_cast<size_t>(classes_), ErrorKind::kShape,
        "attack: ", reference.size(), " reference logits for ", count, " images of ", classes_,
        " classes");
  return differentiate(pixels, gradient, [&](const Tensor& logits) {
    reference_.assign(reference.begin(), reference.end());
    reference_.resize(static_cast<size_t>(logits.numel()), 0);
    const Tensor from(reference_.data(), logits.shape(), engine::Dtype::kF32, engine::Device::kCpu);
    return nn::kl_divergence(from, logits, 1);
  });
}

}  // namespace train
