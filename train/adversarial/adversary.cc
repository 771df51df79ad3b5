#include "train/adversarial/adversary.h"

#include <algorithm>

#include "engine/core/parallel.h"
#include "train/attacks/pixel_range.h"
#include "train/fraction.h"

namespace train {

using engine::Tensor;

Adversary::Adversary(const Config& config, const Network& network)
    : config_(config),
      ball_{Norm::kLinf, read_fraction(config.adversarial.eps).value_or(0)},
      length_(read_fraction(config.adversarial.step).value_or(0)),
      steps_(config.adversarial.kind == "fast" ? 1 : config.adversarial.steps),
      model_(network, config) {}

Tensor Adversary::perturb(const Tensor& images, std::span<const int32_t> labels, int64_t step,
                          std::span<const int64_t> sample_ids) {
  const auto size = static_cast<size_t>(images.numel());
  clean_.resize(size);
  x_.resize(size);
  gradient_.resize(size);
  unnormalise_pixels(config_, {images.data<const float>(), size}, clean_);
  const auto count = static_cast<int64_t>(labels.size());
  const auto seed = static_cast<uint64_t>(config_.train.seed);
  const auto part = [&](auto& v, int64_t i) {
    const auto pixels = static_cast<size_t>(model_.pixels_per_image());
    return std::span(v).subspan(static_cast<size_t>(i) * pixels, pixels);
  };
  const auto each = [&](auto&& f) {
    engine::parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i);
    });
  };
  each([&](int64_t i) {
    const engine::RngKey key = engine::RngKey(seed, engine::Purpose::kAttack)
                                   .with(static_cast<uint64_t>(step))
                                   .with(static_cast<uint64_t>(sample_ids[static_cast<size_t>(i)]));
    ball_.draw(part(clean_, i), key, part(x_, i));
  });
  const bool as_trained = config_.adversarial.attack_mode == "train";
  const bool drops_start = config_.adversarial.kind == "fast" && config_.adversarial.drop_start;
  for (int64_t t = 0; t < steps_; ++t) {
    // Each pass has noise and masks of its own, none of them those of the training pass.
    const uint64_t own =
        engine::RngKey(seed, engine::Purpose::kAttack).with(static_cast<uint64_t>(t)).value();
    model_.set_pass({as_trained ? nn::Mode::kTrain : nn::Mode::kEval, own, step, sample_ids});
    model_.logits_and_gradient(x_, labels, gradient_);
    if (drops_start) x_ = clean_;
    each([&](int64_t i) {
      ball_.ascend(part(clean_, i), part(gradient_, i), length_, part(x_, i));
    });
  }
  if (!result_.tensor().defined() || result_.tensor().shape() != images.shape()) {
    result_ = engine::Buffer(images.shape(), engine::Dtype::kF32, engine::Device::kCpu);
  }
  normalise_pixels(config_, x_, {result_.data<float>(), size});
  return result_.tensor();
}

}  // namespace train
