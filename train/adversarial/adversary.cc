#include "train/adversarial/adversary.h"

#include <algorithm>

#include "engine/core/parallel.h"
#include "train/attacks/pixel_range.h"
#include "train/fraction.h"

namespace train {

using engine::Tensor;

namespace {

constexpr double kNear = 0.001;  // how far from the image TRADES starts, as published

// Image i of several.
std::span<float> image(std::vector<float>& images, int64_t i, int64_t pixels) {
  return std::span(images).subspan(static_cast<size_t>(i * pixels), static_cast<size_t>(pixels));
}

template <class F>
void for_each_image(int64_t count, F&& f) {
  engine::parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace

Adversary::Adversary(const Config& config, const Network& network)
    : config_(config),
      ball_{Norm::kLinf, read_fraction(config.adversarial.eps).value_or(0)},
      length_(read_fraction(config.adversarial.step).value_or(0)),
      steps_(config.adversarial.kind == "fast" ? 1 : config.adversarial.steps),
      trades_(config.adversarial.kind == "trades"),
      model_(network, config) {}

uint64_t Adversary::pass_seed(int64_t pass) const {
  return engine::RngKey(static_cast<uint64_t>(config_.train.seed), engine::Purpose::kAttack)
      .with(static_cast<uint64_t>(pass))
      .value();
}

void Adversary::start(int64_t step, std::span<const int64_t> sample_ids) {
  const int64_t pixels = model_.pixels_per_image();
  const auto seed = static_cast<uint64_t>(config_.train.seed);
  for_each_image(static_cast<int64_t>(sample_ids.size()), [&](int64_t i) {
    const engine::RngKey key = engine::RngKey(seed, engine::Purpose::kAttack)
                                   .with(static_cast<uint64_t>(step))
                                   .with(static_cast<uint64_t>(sample_ids[static_cast<size_t>(i)]));
    const std::span<const float> clean = image(clean_, i, pixels);
    const std::span<float> x = image(x_, i, pixels);
    if (!trades_) {
      ball_.draw(clean, key, x);
      return;
    }
    for (size_t k = 0; k < x.size(); ++k) {
      x[k] = static_cast<float>(double{clean[k]} + kNear * key.normal(k));
    }
  });
}

Tensor Adversary::perturb(const Tensor& images, std::span<const int32_t> labels, int64_t step,
                          std::span<const int64_t> sample_ids) {
  const auto size = static_cast<size_t>(images.numel());
  clean_.resize(size);
  x_.resize(size);
  gradient_.resize(size);
  unnormalise_pixels(config_, {images.data<const float>(), size}, clean_);
  start(step, sample_ids);
  const bool as_trained = config_.adversarial.attack_mode == "train";
  // Each pass has noise and masks of its own, none of them those of the training pass.
  const auto begin_pass = [&](int64_t pass) {
    model_.set_pass(
        {as_trained ? nn::Mode::kTrain : nn::Mode::kEval, pass_seed(pass), step, sample_ids});
  };
  if (trades_) {
    begin_pass(steps_ + 1);
    const std::span<const float> logits = model_.logits(clean_);
    reference_.assign(logits.begin(), logits.end());
  }
  const bool drops_start = config_.adversarial.kind == "fast" && config_.adversarial.drop_start;
  for (int64_t t = 0; t < steps_; ++t) {
    begin_pass(t);
    if (trades_) {
      model_.logits_and_divergence(x_, reference_, gradient_);
    } else {
      model_.logits_and_gradient(x_, labels, gradient_);
    }
    if (drops_start) x_ = clean_;
    const int64_t pixels = model_.pixels_per_image();
    for_each_image(static_cast<int64_t>(sample_ids.size()), [&](int64_t i) {
      ball_.ascend(image(clean_, i, pixels), image(gradient_, i, pixels), length_,
                   image(x_, i, pixels));
    });
  }
  if (!result_.tensor().defined() || result_.tensor().shape() != images.shape()) {
    result_ = engine::Buffer(images.shape(), engine::Dtype::kF32, engine::Device::kCpu);
  }
  normalise_pixels(config_, x_, {result_.data<float>(), size});
  return result_.tensor();
}

}  // namespace train
