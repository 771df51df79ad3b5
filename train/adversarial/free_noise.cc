#include "train/adversarial/free_noise.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "engine/core/parallel.h"
#include "train/attacks/pixel_range.h"
#include "train/fraction.h"

namespace train {

using engine::Tensor;

namespace {

constexpr int64_t kPiece = 4096;  // elements of a task

engine::Buffer zeros(const engine::Shape& shape) {
  engine::Buffer buffer(shape, engine::Dtype::kF32, engine::Device::kCpu);
  std::fill_n(buffer.data<float>(), shape.numel(), 0.0f);
  return buffer;
}

}  // namespace

FreeNoise::FreeNoise(const Config& config)
    : config_(config),
      eps_(static_cast<float>(read_fraction(config.adversarial.eps).value_or(0))),
      length_(static_cast<float>(read_fraction(config.adversarial.step).value_or(0))),
      pixels_(config.model.channels * config.model.image_size * config.model.image_size),
      noise_(zeros({config.train.batch, config.model.channels, config.model.image_size,
                    config.model.image_size})) {}

Tensor FreeNoise::show(engine::Tape& tape, const Tensor& images, int64_t begin) {
  const auto size = static_cast<size_t>(images.numel());
  sum_.resize(size);
  clipped_.resize(size);
  if (!shown_.tensor().defined() || shown_.tensor().shape() != images.shape()) {
    shown_ = engine::Buffer(images.shape(), engine::Dtype::kF32, engine::Device::kCpu);
    gradient_ = engine::Buffer(images.shape(), engine::Dtype::kF32, engine::Device::kCpu);
  }
  unnormalise_pixels(config_, {images.data<const float>(), size}, sum_);
  const float* noise = noise_.data<float>() + begin * pixels_;
  float* gradient = gradient_.data<float>();
  engine::parallel_for(images.numel(), kPiece, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto at = static_cast<size_t>(i);
      sum_[at] += noise[i];
      clipped_[at] = std::clamp(sum_[at], 0.0f, 1.0f);
      gradient[i] = 0;
    }
  });
  normalise_pixels(config_, clipped_, {shown_.data<float>(), size});
  return tape.leaf(shown_.tensor(), gradient_.tensor());
}

void FreeNoise::climb(int64_t begin) {
  float* noise = noise_.data<float>() + begin * pixels_;
  // Of the normalised image: normalisation multiplies each by a positive number.
  const float* gradient = gradient_.data<float>();
  engine::parallel_for(shown_.tensor().numel(), kPiece, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const float x = sum_[static_cast<size_t>(i)];
      if (x < 0 || x > 1) continue;
      const auto sign = static_cast<float>((gradient[i] > 0 ? 1 : 0) - (gradient[i] < 0 ? 1 : 0));
      noise[i] = std::clamp(noise[i] + length_ * sign, -eps_, eps_);
    }
  });
}

void FreeNoise::check_range(const std::string& where) const {
  const std::span<const float> all(noise().data<const float>(),
                                   static_cast<size_t>(noise().numel()));
  // Not-a-number compares as false.
  engine::check(std::ranges::all_of(all, [this](float x) { return std::abs(x) <= eps_; }),
                engine::ErrorKind::kFormat, where,
                ": the noise of free adversarial training is beyond adversarial.eps = ",
                config_.adversarial.eps, "; take another checkpoint");
}

}  // namespace train
