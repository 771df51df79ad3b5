#pragma once

#include <span>

#include "train/config.h"

namespace train {

// Images as the loader normalises them, (n, channels, size, size), from and to pixels in [0, 1].
// Only as many as `from` holds; `to` is as large or larger.
void normalise_pixels(const Config& config, std::span<const float> from, std::span<float> to);
// The rounding of the way back is cut to [0, 1].
void unnormalise_pixels(const Config& config, std::span<const float> from, std::span<float> to);

}  // namespace train
