#pragma once

#include <cstdint>

#include "engine/core/rng.h"

namespace data {

// Random erasing (Zhong et al., AAAI 2020) with torchvision's defaults: with `probability`, a box
// of 2 to 33 % of the view's area and 0.3 to 3.3 as high as wide (log-uniform), fully inside and
// smaller than the view, becomes 0, which is the mean where views are normalised by it. Up to 10
// attempts to find one that fits, else nothing.
//
//   view  (channels, size, size) f32, as the model sees it
//
// Draws one number, and more where it erases. Returns whether something was erased.
bool erase_randomly(float* view, int64_t channels, int64_t size, double probability,
                    engine::RngStream& rng);

}  // namespace data
