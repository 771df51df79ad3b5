#pragma once

#include <cstdint>

#include "data/dataset.h"
#include "train/predict/predict.h"

namespace train {

// Draws where the patches of an image went (paper Fig. 1): a row for each MoE layer, in it the
// image as the model sees it, every patch tinted with the colours of its two heaviest experts, the
// first in the upper left half, the second in the lower right, each as strongly as it weighs, and
// numbered with the first. With `noisy` a second column shows the same image with noise, and
// patches whose first expert changed have a white frame in it.
//
//   image   (S, S, 3), before noise and normalisation
//   noisy   null, or what noise made of it: the prediction and the picture
struct NoisyView {
  const Prediction* prediction;
  const data::ImageU8* image;
};
data::ImageU8 draw_routes(const data::ImageU8& image, const Prediction& prediction, int64_t patch,
                          const NoisyView* noisy);

// Colour (r, g, b) of an expert of `experts`: hues evenly apart.
struct Colour {
  uint8_t r, g, b;
};
Colour expert_colour(int64_t expert, int64_t experts);

}  // namespace train
