#pragma once

#include "data/dataset.h"
#include "data/transform/augment/affine.h"

namespace data {

// What pixels from outside the picture are. kGrey: 128, as upstream V-MoE has it; kReflect: the
// picture mirrored at its edges, d c b a | a b c d | d c b a, as the PRC fork has it.
enum class Border : uint8_t { kGrey, kReflect };

// Each pixel (X, Y) of `out`, of the size of `in`, is the pixel of `in` nearest to what
// geometry.pull says, halves away from zero. Coordinates are computed in f32, as TensorFlow's
// ImageProjectiveTransform does. `out` must not be `in`; allocates only where it is too small.
void warp(const ImageU8& in, const Geometry& geometry, Border border, ImageU8& out);

// The coordinate inside [0, n) that a coordinate outside reflects to; exposed for tests.
float reflected(float coordinate, int64_t n);

}  // namespace data
