#pragma once

#include <cstdint>

#include "engine/core/rng.h"

namespace data {

// Part of a view, in pixels of it; nothing where a side is 0.
struct ErasedBox {
  int32_t top = 0, left = 0, height = 0, width = 0;
  bool operator==(const ErasedBox&) const = default;
};

// Random erasing (Zhong et al., AAAI 2020) with torchvision's defaults: with `probability`, a box
// of 2 to 33 % of the view's area and 0.3 to 3.3 as high as wide (log-uniform), fully inside and
// smaller than the view, becomes 0, which is the mean where views are normalised by it. Up to 10
// attempts to find one that fits, else nothing.
//
// Draws one number, and more where it erases.
ErasedBox draw_erased(int64_t size, double probability, engine::RngStream& rng);

// Draws and erases. Returns whether something was erased.
//   view  (channels, size, size) f32, as the model sees it
bool erase_randomly(float* view, int64_t channels, int64_t size, double probability,
                    engine::RngStream& rng);

}  // namespace data
