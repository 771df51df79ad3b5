#include "train/attacks/pixel_range.h"

#include <vector>

#include "engine/core/device_memory.h"
#include "train/model.h"

namespace train {

using engine::Device;
using engine::Tensor;

void normalise_pixels(const Config& config, std::span<const float> from, std::span<float> to) {
  kernels::normalise(engine::Cpu{}, PixelRange(config, Device::kCpu).channels(), from.data(),
                     to.data(), static_cast<int64_t>(from.size()));
}

void unnormalise_pixels(const Config& config, std::span<const float> from, std::span<float> to) {
  kernels::unnormalise(engine::Cpu{}, PixelRange(config, Device::kCpu).channels(), from.data(),
                       to.data(), static_cast<int64_t>(from.size()));
}

PixelRange::PixelRange(const Config& config, Device device)
    : plane_(config.model.image_size * config.model.image_size),
      unit_({config.model.channels}, engine::Dtype::kF32, device),
      black_({config.model.channels}, engine::Dtype::kF32, device) {
  std::vector<float> unit, black;
  for (int64_t c = 0; c < config.model.channels; ++c) {
    unit.push_back(static_cast<float>(pixel_unit(config, c)));
    black.push_back(static_cast<float>(black_value(config, c)));
  }
  engine::device_copy(device, unit_.tensor().raw(), Device::kCpu, unit.data(),
                      unit_.tensor().bytes());
  engine::device_copy(device, black_.tensor().raw(), Device::kCpu, black.data(),
                      black_.tensor().bytes());
}

kernels::Channels PixelRange::channels() const {
  return {unit_.data<float>(), black_.data<float>(), unit_.tensor().numel(), plane_};
}

void PixelRange::normalise(const Tensor& from, const Tensor& to) const {
  engine::dispatch_device(from.device(), [&](auto backend) {
    kernels::normalise(backend, channels(), from.data<const float>(), to.data<float>(),
                       from.numel());
  });
}

void PixelRange::unnormalise(const Tensor& from, const Tensor& to) const {
  engine::dispatch_device(from.device(), [&](auto backend) {
    kernels::unnormalise(backend, channels(), from.data<const float>(), to.data<float>(),
                         from.numel());
  });
}

void PixelRange::differentiate(const Tensor& from, const Tensor& to) const {
  engine::dispatch_device(from.device(), [&](auto backend) {
    kernels::times_unit(backend, channels(), from.data<const float>(), to.data<float>(),
                        to.numel());
  });
}

}  // namespace train
