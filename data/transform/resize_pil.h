#pragma once

#include "data/dataset.h"

namespace data {

// Resizes as Pillow's Image.resize(BILINEAR) does, antialiased: a triangle of half width
// max(in / out, 1) around the centre (i + 1/2) in / out, its weights computed in f64, normalised
// and rounded to 22 bits; first every row, then every column, each pass rounded to bytes. To the
// bit that of Pillow before 12.2, which takes columns first for some pictures. Error(kShape) for an
// empty size. `out` must not be `in`; `scratch` is for the rows.
void resize_pil_bilinear(const ImageU8& in, int64_t height, int64_t width, ImageU8& scratch,
                         ImageU8& out);

}  // namespace data
