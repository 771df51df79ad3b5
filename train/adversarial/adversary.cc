#include "train/adversarial/adversary.h"

#include <algorithm>

#include "engine/core/parallel.h"
#include "train/fraction.h"

namespace train {

using engine::Device;
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
      model_(network, config),
      host_range_(config, Device::kCpu),
      range_(config, network.device()),
      arena_(network.device()) {}

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

// From where x is, one step along the gradient; of `fast`, where it drops its start, from `clean`.
void Adversary::climb(const Tensor& clean, const Tensor& x, const Tensor& gradient,
                      const double* lengths) {
  const engine::RowsCols size{x.shape()[0], x.shape()[1]};
  const bool drops_start = config_.adversarial.kind == "fast" && config_.adversarial.drop_start;
  engine::dispatch_device(arena_.device(), [&](auto backend) {
    if (drops_start) {
      kernels::copy_rows(backend, size, clean.data<const float>(), nullptr, x.data<float>(),
                         nullptr);
    }
    kernels::ascend(backend, ball_, size, clean.data<const float>(), gradient.data<const float>(),
                    lengths, x.data<float>());
  });
}

Tensor Adversary::perturb(const Tensor& images, std::span<const int32_t> labels, int64_t step,
                          std::span<const int64_t> sample_ids) {
  const auto count = static_cast<int64_t>(sample_ids.size());
  arena_.reset();
  clean_.resize(static_cast<size_t>(images.numel()));
  x_.resize(clean_.size());
  const engine::Shape shape{count, model_.pixels_per_image()};
  const Tensor clean_here(clean_.data(), shape, engine::Dtype::kF32, Device::kCpu);
  host_range_.unnormalise(images, clean_here);
  start(step, sample_ids);
  lengths_.assign(sample_ids.size(), length_);
  const Tensor clean = engine::brought_to(arena_, clean_here);
  const Tensor x =
      engine::brought_to(arena_, Tensor(x_.data(), shape, engine::Dtype::kF32, Device::kCpu));
  const Tensor lengths = engine::brought_to(
      arena_, Tensor(lengths_.data(), {count}, engine::Dtype::kF64, Device::kCpu));
  const Tensor gradient = arena_.empty(shape, engine::Dtype::kF32);

  const bool as_trained = config_.adversarial.attack_mode == "train";
  // Each pass has noise and masks of its own, none of them those of the training pass.
  const auto begin_pass = [&](int64_t pass) {
    model_.set_pass(
        {as_trained ? nn::Mode::kTrain : nn::Mode::kEval, pass_seed(pass), step, sample_ids});
  };
  Tensor reference;
  if (trades_) {
    begin_pass(steps_ + 1);
    const Tensor logits = model_.logits(clean);
    reference = arena_.empty(logits.shape(), engine::Dtype::kF32);
    engine::dispatch_device(arena_.device(), [&](auto backend) {
      kernels::copy_rows(backend, {count, model_.classes()}, logits.data<const float>(), nullptr,
                         reference.data<float>(), nullptr);
    });
  }
  for (int64_t t = 0; t < steps_; ++t) {
    begin_pass(t);
    if (trades_) {
      model_.logits_and_divergence(x, reference, gradient);
    } else {
      model_.logits_and_gradient(x, labels, gradient);
    }
    climb(clean, x, gradient, lengths.data<const double>());
  }
  model_.check_finite();
  const Tensor result = arena_.empty(images.shape(), engine::Dtype::kF32);
  range_.normalise(x, result);
  return result;
}

}  // namespace train
