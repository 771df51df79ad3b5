#pragma once

#include <cstdint>

#include "data/crop_box.h"
#include "engine/core/rng.h"

namespace data {

struct InceptionCrop {
  double area_min = 0.05, area_max = 1.0;       // share of the picture
  double aspect_min = 0.75, aspect_max = 1.33;  // width / height
};

// Draws a box of random area, shape and place (spec: vmoe data/pp_ops.py, after TensorFlow's
// sample_distorted_bounding_box). Up to 100 attempts, each:
//
//   aspect a ~ U(aspect_min, aspect_max), linear
//   h uniform in [round(sqrt(Amin/a)), min(round(sqrt(Amax/a)), largest h with round(h*a) <= W, H)]
//   w = round(h*a); h is one more where w*h < Amin, one less where w*h > Amax
//   rejected where w*h is still outside [Amin, Amax] or the box does not fit
//   y uniform in [0, H-h), x uniform in [0, W-w); 0 where the range is empty
//
// Halves round to even. Failing all attempts it is the whole picture. `flip` is false.
// Uses only +, -, *, / and sqrt, each rounded on its own: the same box on every machine.
CropBox draw_inception_crop(int64_t height, int64_t width, const InceptionCrop& range,
                            engine::RngStream& rng);

}  // namespace data
