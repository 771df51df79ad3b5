#pragma once

#include <cstdint>

#include "data/crop_box.h"
#include "data/dataset.h"
#include "engine/core/rng.h"

namespace data {

// Draws the usual CIFAR crop: the picture gets `pad` black (0) pixels on every side and a box
// of the picture's own size is cut from it at a random place. In pixels of the picture its
// corner (y, x) is uniform in [-pad, pad], so the box is an exact shift. `flip` is false.
CropBox draw_pad_crop(int64_t height, int64_t width, int64_t pad, engine::RngStream& rng);

// Cuts `box` from `in`; pixels outside `in` are 0. `box.flip` is not looked at. `out` must not
// be `in`. Allocates only where `out` is too small.
void crop(const ImageU8& in, const CropBox& box, ImageU8& out);

}  // namespace data
