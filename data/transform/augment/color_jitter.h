#pragma once

#include "data/dataset.h"
#include "engine/core/rng.h"

namespace data {

// Colour jitter as torchvision does it to pictures of Pillow, to the bit, on bytes after crop, flip
// and RandAugment: brightness, contrast, saturation and hue in an order drawn anew for each view.
// The first three are blended with black, with their mean grey and with themselves in grey, by a
// factor drawn from [max(0, 1 - v), 1 + v]; the hue turns by a share of the circle drawn from
// [-v, v]. v = 0 leaves that one out. Pictures of one channel keep their (lack of) colours.
struct ColorJitter {
  double brightness = 0, contrast = 0, saturation = 0, hue = 0;
  bool active() const { return brightness > 0 || contrast > 0 || saturation > 0 || hue > 0; }
};

// Draws and applies it; no allocation. Error(kShape) for other numbers of channels than 1 and 3.
void jitter_colors(ImageU8& image, const ColorJitter& jitter, engine::RngStream& rng);

// The single ones; brightness is the one of pixel_ops.h.
void adjust_contrast(ImageU8& image, float factor);
void adjust_saturation(ImageU8& image, float factor);
// turn: -0.5 to 0.5 of the circle. By way of hue, saturation and value in bytes, as Pillow's "HSV".
void adjust_hue(ImageU8& image, double turn);

}  // namespace data
