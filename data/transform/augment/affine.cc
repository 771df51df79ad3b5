#include "data/transform/augment/affine.h"

#include <cmath>

#include "engine/core/error.h"

namespace data {

Affine Affine::after(const Affine& first) const {
  const double *a = m, *b = first.m;
  return {{a[0] * b[0] + a[1] * b[3], a[0] * b[1] + a[1] * b[4], a[0] * b[2] + a[1] * b[5] + a[2],
           a[3] * b[0] + a[4] * b[3], a[3] * b[1] + a[4] * b[4], a[3] * b[2] + a[4] * b[5] + a[5]}};
}

Affine Affine::inverse() const {
  const double determinant = m[0] * m[4] - m[1] * m[3];
  engine::check(determinant != 0 && std::isfinite(determinant), engine::ErrorKind::kValue,
                "a map of determinant ", determinant, " has no inverse");
  const double a = m[4] / determinant, b = -m[1] / determinant, c = -m[3] / determinant,
               d = m[0] / determinant;
  return {{a, b, -(a * m[2] + b * m[5]), c, d, -(c * m[2] + d * m[5])}};
}

Geometry rotation(int64_t height, int64_t width, double degrees) {
  const double angle = degrees * (3.14159265358979323846 / 180), c = std::cos(angle),
               s = std::sin(angle);
  const auto right = static_cast<double>(width - 1), bottom = static_cast<double>(height - 1);
  const double x = (right - (c * right - s * bottom)) / 2,
               y = (bottom - (s * right + c * bottom)) / 2;
  return {{c, -s, x, s, c, y}, {{c, -s, x, s, c, y}}};
}

Geometry shear_x(double level) { return {{1, level, 0, 0, 1, 0}, {{1, 0, 0, -level, 1, 0}}}; }
Geometry shear_y(double level) { return {{1, 0, 0, level, 1, 0}, {{1, -level, 0, 0, 1, 0}}}; }
Geometry translation_x(double p) { return {{1, 0, p, 0, 1, 0}, {{1, 0, 0, 0, 1, -p}}}; }
Geometry translation_y(double p) { return {{1, 0, 0, 0, 1, p}, {{1, 0, -p, 0, 1, 0}}}; }

}  // namespace data
