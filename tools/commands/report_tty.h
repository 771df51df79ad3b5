#pragma once

#include <string>

#include "data/dataset.h"
#include "train/predict/predict.h"

namespace tools {

// The patches of an image as lines of text, a block of lines for each MoE layer: each patch its
// first expert's number, - where no expert took it; with `colour` after a bar in the expert's
// colour, on the patch's mean colour (24-bit escape sequences), in black or white, whichever is
// easier to read there.
//
//   image  (S, S, 3), what the model sees
std::string patch_grid(const train::Prediction& prediction, const data::ImageU8& image,
                       int64_t patch, bool colour);

}  // namespace tools
