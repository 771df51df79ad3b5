#include "train/adversarial/free_noise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/device_memory.h"
#include "train/adversarial/free_noise_kernels.h"
#include "train/fraction.h"

namespace train {

using engine::Device;
using engine::Tensor;

FreeNoise::FreeNoise(const Config& config, Device device)
    : config_(config),
      eps_(static_cast<float>(read_fraction(config.adversarial.eps).value_or(0))),
      length_(static_cast<float>(read_fraction(config.adversarial.step).value_or(0))),
      pixels_(config.model.channels * config.model.image_size * config.model.image_size),
      range_(config, device),
      noise_({config.train.batch, config.model.channels, config.model.image_size,
              config.model.image_size},
             engine::Dtype::kF32, device) {}

Tensor FreeNoise::show(engine::Tape& tape, const Tensor& images, int64_t begin) {
  const Device device = noise().device();
  if (!shown_.tensor().defined() || shown_.tensor().shape() != images.shape()) {
    for (engine::Buffer* buffer : {&shown_, &gradient_, &sum_}) {
      *buffer = engine::Buffer(images.shape(), engine::Dtype::kF32, device);
    }
  }
  const Tensor there = engine::brought_to(tape.arena(), images);
  engine::device_zero(device, gradient_.tensor().raw(), gradient_.tensor().bytes());
  engine::dispatch_device(device, [&](auto backend) {
    kernels::add_noise(backend, range_.channels(), there.data<const float>(),
                       noise_.data<float>() + begin * pixels_, sum_.data<float>(),
                       shown_.data<float>(), images.numel());
  });
  return tape.leaf(shown_.tensor(), gradient_.tensor());
}

void FreeNoise::climb(int64_t begin) {
  // Of the normalised image: normalisation multiplies each by a positive number.
  engine::dispatch_device(noise().device(), [&](auto backend) {
    kernels::move_noise(backend, sum_.data<const float>(), gradient_.data<const float>(), length_,
                        eps_, noise_.data<float>() + begin * pixels_, sum_.tensor().numel());
  });
}

void FreeNoise::check_range(const std::string& where) const {
  std::vector<float> all(static_cast<size_t>(noise().numel()));
  engine::device_copy(Device::kCpu, all.data(), noise().device(), noise().raw(), noise().bytes());
  // Not-a-number compares as false.
  engine::check(std::ranges::all_of(all, [this](float x) { return std::abs(x) <= eps_; }),
                engine::ErrorKind::kFormat, where,
                ": the noise of free adversarial training is beyond adversarial.eps = ",
                config_.adversarial.eps, "; take another checkpoint");
}

}  // namespace train
