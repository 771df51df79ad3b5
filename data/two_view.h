#pragma once

#include <cstdint>

#include "data/crop_box.h"
#include "data/transform/augment/affine.h"

namespace data {

// Puts the two views of a picture in order: view 1 is the one with the smaller crop, hence
// the higher resolution, so that most of its patches find a partner in view 2. Of equal crops
// the second one drawn is view 1 (fork: data/pp_ops.py).
//
// True where `first_drawn` is view 1.
inline bool first_is_view1(const CropBox& first_drawn, const CropBox& second_drawn) {
  return first_drawn.area() < second_drawn.area();
}

// Which patch of view 2 shows what each patch of view 1 shows (paper §III-C).
//
// A view is a box (h, w, y, x) of the picture, resized to S x S, perhaps mirrored. In
// continuous pixels, 0 at the image edge, its matrix from the picture to the view is
//
//   M = [ S/h   0    -S*y/h ]      mirrored: second row [ 0  -S/w  S*(w+x)/w ]
//       [ 0     S/w  -S*x/w ]
//       [ 0     0     1     ]
//
// and R = M_2 * M_1^-1 takes view 1 to view 2. Patch p of the l x l grid (l = S/P) has its
// centre at ((p / l + 1/2) * P, (p mod l + 1/2) * P). Its partner is the patch of view 2 that
// holds R * centre: grid coordinate R * centre / P - 1/2, rounded as floor(c + 1/2); none if
// that is outside the grid. Several patches may share one partner.
//
//   view1, view2  boxes with h, w >= 1
//   image_size    S in pixels, a multiple of `patch`
//   patch         P in pixels
//   match         (l * l) out: index of the partner in view 2, or -1
//
// Exact: rows and columns are independent and everything is a fraction of integers, so the
// floor is an integer division. Throws Error(kShape) for sizes that do not fit.
void patch_match(const CropBox& view1, const CropBox& view2, int64_t image_size, int64_t patch,
                 int32_t* match);

// M, the map from a picture to the view that `box` cuts from it.
Affine view_map(const CropBox& box, int64_t image_size);

// The same for views that were moved further (RandAugment): `view1` and `view2` map the picture to
// them, in f64. What an operation let in from beyond a border is not left out, as published.
void patch_match(const Affine& view1, const Affine& view2, int64_t image_size, int64_t patch,
                 int32_t* match);

}  // namespace data
