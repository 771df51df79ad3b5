#include "data/transform/augment/warp.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/data/temp_folder.h"

using data::Affine;
using data::Border;
using data::Geometry;
using data::ImageU8;
using data::test::error_of;

namespace {

ImageU8 row_of_four() { return {1, 4, 1, {10, 20, 30, 40}}; }

std::vector<uint8_t> moved(const Geometry& geometry, Border border) {
  ImageU8 out;
  data::warp(row_of_four(), geometry, border, out);
  return out.pixels;
}

}  // namespace

TEST_CASE("warp: which pixels a reflected border shows") {
  const std::vector<int> want = {2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2};
  for (int c = -6; c <= 10; ++c) {
    CHECK(data::reflected(static_cast<float>(c), 4) == static_cast<float>(want[c + 6]));
  }
  for (const float c : {-3.5f, -0.4f, 0.0f, 0.3f, 7.0f}) CHECK(data::reflected(c, 1) == 0.0f);
}

TEST_CASE("warp: translations, grey and reflected") {
  using Bytes = std::vector<uint8_t>;
  CHECK(moved(data::translation_x(1), Border::kGrey) == Bytes{20, 30, 40, 128});
  CHECK(moved(data::translation_x(-2), Border::kGrey) == Bytes{128, 128, 10, 20});
  CHECK(moved(data::translation_x(-2), Border::kReflect) == Bytes{20, 10, 10, 20});
  CHECK(moved(data::translation_x(100), Border::kGrey) == Bytes(4, 128));
  CHECK(moved(data::translation_y(1), Border::kGrey) == Bytes(4, 128));
  CHECK(moved(data::translation_y(1), Border::kReflect) == Bytes{10, 20, 30, 40});
}

TEST_CASE("warp: halves go away from zero") {
  using Bytes = std::vector<uint8_t>;
  CHECK(moved(data::translation_x(0.5), Border::kGrey) == Bytes{20, 30, 40, 128});
  // -0.5 is -1, outside; 0.5 is 1.
  CHECK(moved(data::translation_x(-0.5), Border::kGrey) == Bytes{128, 20, 30, 40});
}

TEST_CASE("warp: rotation and its published matrix") {
  const Geometry g = data::rotation(224, 224, 30);
  const double want[6] = {0.8660254, -0.5, 70.688, 0.5, 0.8660254, -40.812};
  for (int i = 0; i < 6; ++i) CHECK(g.pull[i] == doctest::Approx(want[i]).epsilon(1e-5));
  // A quarter turn of a square picture, exactly.
  const ImageU8 in{2, 2, 1, {1, 2, 3, 4}};
  ImageU8 out;
  data::warp(in, data::rotation(2, 2, 90), Border::kGrey, out);
  CHECK(out.pixels == std::vector<uint8_t>{2, 4, 1, 3});
}

TEST_CASE("warp: forward maps undo pulls on square pictures") {
  for (const Geometry& g :
       {data::rotation(65, 65, 30), data::rotation(64, 64, -45), data::shear_x(0.3),
        data::shear_y(-0.45), data::translation_x(100), data::translation_y(-7)}) {
    for (const double row : {0.0, 3.5, 60.0}) {
      for (const double column : {0.0, 11.25, 64.0}) {
        // Where the output place (row, column) comes from, and back.
        const double x = g.pull[0] * column + g.pull[1] * row + g.pull[2];
        const double y = g.pull[3] * column + g.pull[4] * row + g.pull[5];
        const double* m = g.forward.m;
        CHECK(std::abs(m[0] * y + m[1] * x + m[2] - row) < 1e-9);
        CHECK(std::abs(m[3] * y + m[4] * x + m[5] - column) < 1e-9);
      }
    }
  }
}

TEST_CASE("affine: products and inverses") {
  const Affine a{{2, 1, 3, -1, 4, 5}}, b{{0, 1, -2, 3, 0, 7}};
  const Affine both = a.after(b);  // at (1, 1): b gives (-1, 10), a of that (11, 46)
  CHECK(both.m[0] + both.m[1] + both.m[2] == doctest::Approx(11));
  CHECK(both.m[3] + both.m[4] + both.m[5] == doctest::Approx(46));
  const Affine none = a.after(a.inverse());
  for (int i = 0; i < 6; ++i) CHECK(std::abs(none.m[i] - Affine{}.m[i]) < 1e-15);
  CHECK(error_of([] { Affine{{1, 2, 0, 2, 4, 0}}.inverse(); }).kind == engine::ErrorKind::kValue);
}
