#pragma once

#include <cstdint>

#include "train/attacks/pixel_kernels.h"

// Raw kernels of free adversarial training (free_noise.h has the formulas).
namespace train::kernels {

// Of n elements of whole images as the loader normalises them: sum = pixel + noise, and shown is
// its part in [0, 1], normalised again.
void add_noise(Cpu, const Channels& by, const float* images, const float* noise, float* sum,
               float* shown, int64_t n);
void add_noise(Cuda, const Channels& by, const float* images, const float* noise, float* sum,
               float* shown, int64_t n);

// noise <- clip(noise + step * sign(gradient), -eps, eps) where sum lies in [0, 1].
void move_noise(Cpu, const float* sum, const float* gradient, float step, float eps, float* noise,
                int64_t n);
void move_noise(Cuda, const float* sum, const float* gradient, float step, float eps, float* noise,
                int64_t n);

// That of one element, on both.
constexpr float moved_noise(float sum, float gradient, float step, float eps, float noise) {
  if (sum < 0 || sum > 1) return noise;
  const auto sign = static_cast<float>((gradient > 0 ? 1 : 0) - (gradient < 0 ? 1 : 0));
  const float next = noise + step * sign;
  return next < -eps ? -eps : next > eps ? eps : next;
}

}  // namespace train::kernels
