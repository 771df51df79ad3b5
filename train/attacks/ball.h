#pragma once

#include <cstdint>
#include <span>

#include "engine/core/rng.h"

namespace train {

enum class Norm : uint8_t { kLinf, kL2 };

// The images that an attack may show: those within `eps` of a clean one, in a norm over all its
// pixels, with pixels in [0, 1]. Bounds hold for the f32 numbers that are stored, since rounding
// goes towards the clean image; what is left is the rounding of f64.
struct Ball {
  Norm norm = Norm::kLinf;
  double eps = 8.0 / 255;

  // Moves x into the ball around `clean` and into [0, 1].
  //   kLinf  each pixel to the nearest number within eps of the clean one and in [0, 1]
  //   kL2    x - clean is shortened to eps where it is longer, then pixels are cut to [0, 1],
  //          which moves them towards the clean ones
  void project(std::span<const float> clean, std::span<float> x) const;
  // A random image of the ball: kLinf, each pixel uniform within eps; kL2, uniform in the ball;
  // both then projected. The numbers are those of `key`.
  void draw(std::span<const float> clean, const engine::RngKey& key, std::span<float> x) const;
  // x += length * direction of steepest ascent for this gradient, then projected: the sign of the
  // gradient, or the gradient divided by its norm (no step where it is 0).
  void ascend(std::span<const float> clean, std::span<const float> gradient, double length,
              std::span<float> x) const;
  // eps, or where that is more, twice the length of the pixel range, which nobody could tell from
  // it: a length that overflows no float.
  double reach(size_t pixels) const;
  // |x - clean| in f64.
  double distance(std::span<const float> clean, std::span<const float> x) const;
  // Within eps, but for the rounding of f64 (1e-9 relative), and all pixels in [0, 1].
  bool holds(std::span<const float> clean, std::span<const float> x) const;
};

}  // namespace train
