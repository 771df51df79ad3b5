#pragma once

#include "data/dataset.h"
#include "train/config.h"

namespace train {

// Normalised pixels (C, S, S) of one image back to bytes, as three channels: what the model sees.
// What is outside the pixel range is clipped.
data::ImageU8 seen_picture(const float* pixels, const Config& config);

}  // namespace train
