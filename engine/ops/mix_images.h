#pragma once

#include <span>

#include "engine/core/tape.h"

namespace engine {

// What becomes of one image of a batch: outside the box `own` of it and 1 - own of its partner,
// inside the box its partner alone. Mixup has an empty box, CutMix own = 1.
struct ImageMix {
  int64_t partner = 0;                          // its place in the batch
  float own = 1;                                // in [0, 1]
  int64_t y = 0, x = 0, height = 0, width = 0;  // the box, inside the image
};

// Images [begin, end) of a batch, each mixed with its partner:
//   y[i,c,h,w] = x[p,c,h,w] in the box of n, else own_n x[n,c,h,w] + (1 - own_n) x[p,c,h,w]
// with n = begin + i and p the partner of n.
//
//   x        (N, C, H, W)  f32 or f64, on a tape, wants no gradient
//   mixes    (N)
//   returns  (end - begin, C, H, W)
//
// No gradient goes to x. One multiply-add a pixel: two images are read, one is written. An
// image's bits depend on its own mix only; own = 1 and an empty box give x[n] itself.
//
// Throws Error(kShape) for other shapes or as many mixes as images are not there, Error(kValue)
// for a partner or box outside, for own outside [0, 1], or where x wants a gradient.
Tensor mix_images(const Tensor& x, std::span<const ImageMix> mixes, int64_t begin, int64_t end);

}  // namespace engine
