#pragma once

#include <cstdint>

namespace data {

// A map of places (row, column) in continuous pixels: row' = m[0] row + m[1] column + m[2],
// column' = m[3] row + m[4] column + m[5].
struct Affine {
  double m[6] = {1, 0, 0, 0, 1, 0};

  // First `first`, then this.
  Affine after(const Affine& first) const;
  // Throws Error(kValue) where there is none.
  Affine inverse() const;
  bool operator==(const Affine&) const = default;
};

// A geometric operation of RandAugment (spec randaugment 5): which pixel (x, y) of the input the
// pixel of the output shows, x = pull[0] X + pull[1] Y + pull[2], y = pull[3] X + pull[4] Y +
// pull[5], and where a place of the input is in the output.
struct Geometry {
  double pull[6];
  Affine forward;
};

// Around the centre of a picture. Its `forward` is right for square pictures, as published.
Geometry rotation(int64_t height, int64_t width, double degrees);
// From the top left corner.
Geometry shear_x(double level);
Geometry shear_y(double level);
Geometry translation_x(double pixels);
Geometry translation_y(double pixels);

}  // namespace data
