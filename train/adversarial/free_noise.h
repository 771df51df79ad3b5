#pragma once

#include <cstdint>
#include <string>

#include "engine/core/buffer.h"
#include "engine/core/tape.h"
#include "train/attacks/pixel_range.h"
#include "train/config.h"

namespace train {

// The perturbation of free adversarial training (Shafahi et al. 2019; spec robust-sparse-moes 4):
// one for each place of a batch, in [0, 1] pixels, 0 when a run begins and kept from step to step.
// A batch is replayed adversarial.replays times; each replay learns from clip(image + noise, 0, 1),
// and the backward that gives the weights' gradients moves the noise, too:
//
//   noise <- clip(noise + step * sign(d loss / d noise), -eps, eps)
//
// The loss is the whole one, balance losses included (once; the published code counts them twice).
// Where image + noise lies outside the pixel range the clip passes no gradient, and the noise stays
// as it is, as there.
class FreeNoise {
 public:
  FreeNoise(const Config& config, engine::Device device);

  // images (B, C, S, S), as the loader normalises them, on the CPU, at places [begin, begin + B) of
  // the batch: with their noise, normalised, a leaf of the device's tape. Valid until the next
  // call.
  engine::Tensor show(engine::Tape& tape, const engine::Tensor& images, int64_t begin);
  // Moves the noise of what was shown last; after the tape's backward().
  void climb(int64_t begin);

  // (train.batch, C, S, S) f32, on the device. It belongs to the run's checkpoints.
  const engine::Tensor& noise() const { return noise_.tensor(); }
  // Error(kFormat), which begins with `where`, if the noise is beyond eps or not finite.
  void check_range(const std::string& where) const;

 private:
  Config config_;
  float eps_, length_;
  int64_t pixels_;  // of an image
  PixelRange range_;
  engine::Buffer noise_, shown_, gradient_, sum_;  // sum_: image + noise
};

}  // namespace train
