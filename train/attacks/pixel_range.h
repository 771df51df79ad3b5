#pragma once

#include <span>

#include "engine/core/buffer.h"
#include "train/attacks/pixel_kernels.h"
#include "train/config.h"

namespace train {

// Images as the loader normalises them, (n, channels, size, size), from and to pixels in [0, 1].
// Only as many as `from` holds; `to` is as large or larger.
void normalise_pixels(const Config& config, std::span<const float> from, std::span<float> to);
// The rounding of the way back is cut to [0, 1].
void unnormalise_pixels(const Config& config, std::span<const float> from, std::span<float> to);

// The same on a device, where both tensors are.
class PixelRange {
 public:
  PixelRange(const Config& config, engine::Device device);

  void normalise(const engine::Tensor& from, const engine::Tensor& to) const;
  void unnormalise(const engine::Tensor& from, const engine::Tensor& to) const;
  // A gradient with respect to normalised images becomes one with respect to pixels.
  void differentiate(const engine::Tensor& from, const engine::Tensor& to) const;
  // For kernels of the device.
  kernels::Channels channels() const;

 private:
  int64_t plane_;
  engine::Buffer unit_, black_;  // (channels)
};

}  // namespace train
