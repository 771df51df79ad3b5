#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "data/transform/flip.h"
#include "data/transform/inception_crop.h"
#include "data/transform/pad_crop.h"
#include "tests/data/temp_folder.h"

using data::CropBox;
using data::ImageU8;
using data::InceptionCrop;
using data::test::Bytes;
using engine::Purpose;
using engine::RngKey;
using engine::RngStream;

TEST_CASE("flip: exact pixels, odd and even widths, one column") {
  ImageU8 image{2, 3, 1, {1, 2, 3, 4, 5, 6}};
  data::flip(image);
  CHECK(image.pixels == Bytes{3, 2, 1, 6, 5, 4});
  image = {1, 2, 2, {1, 2, 3, 4}};
  data::flip(image);
  CHECK(image.pixels == Bytes{3, 4, 1, 2});
  image = {2, 1, 1, {8, 9}};
  data::flip(image);
  CHECK(image.pixels == Bytes{8, 9});
}

TEST_CASE("flip: half of the draws") {
  RngStream rng(RngKey(1, Purpose::kTest));
  int flips = 0;
  for (int i = 0; i < 10000; ++i) flips += data::draw_flip(rng);
  CHECK(std::abs(flips - 5000) < 250);  // 5 standard deviations
}

TEST_CASE("crop: inside, over each edge, outside") {
  const ImageU8 in{2, 3, 1, {1, 2, 3, 4, 5, 6}};
  ImageU8 out;
  data::crop(in, {1, 2, 1, 1}, out);
  CHECK(out.pixels == Bytes{5, 6});
  data::crop(in, {2, 3, -1, -1}, out);
  CHECK(out.pixels == Bytes{0, 0, 0, 0, 1, 2});
  data::crop(in, {2, 3, 1, 2}, out);
  CHECK(out.pixels == Bytes{6, 0, 0, 0, 0, 0});
  data::crop(in, {4, 5, -1, -1}, out);
  CHECK(out.pixels == Bytes{0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0, 0});
  data::crop(in, {1, 2, 0, 9}, out);
  CHECK(out.pixels == Bytes{0, 0});
  data::crop(in, {1, 2, 0, -9}, out);
  CHECK(out.pixels == Bytes{0, 0});
}

TEST_CASE("pad_crop: every shift of -pad to pad, evenly") {
  RngStream rng(RngKey(2, Purpose::kTest));
  int64_t count[5][5] = {};
  for (int i = 0; i < 25000; ++i) {
    const CropBox box = data::draw_pad_crop(32, 28, 2, rng);
    REQUIRE(box.h == 32);
    REQUIRE(box.w == 28);
    REQUIRE(std::max(std::abs(box.y), std::abs(box.x)) <= 2);
    ++count[box.y + 2][box.x + 2];
  }
  for (const auto& row : count) {
    for (const int64_t n : row) CHECK(std::abs(n - 1000) < 160);
  }
}

TEST_CASE("inception_crop: area, aspect and place are in range and reach its ends") {
  RngStream rng(RngKey(3, Purpose::kTest));
  const InceptionCrop range{0.08, 0.7, 0.75, 1.33};
  double area_low = 1, area_high = 0, aspect_low = 9, aspect_high = 0;
  for (int i = 0; i < 20000; ++i) {
    const CropBox box = data::draw_inception_crop(240, 320, range, rng);
    REQUIRE(box.inside(240, 320));
    const double area = static_cast<double>(box.area()) / (240 * 320);
    const double aspect = static_cast<double>(box.w) / static_cast<double>(box.h);
    REQUIRE(area >= 0.08);
    REQUIRE(area <= 0.7);
    area_low = std::min(area_low, area), area_high = std::max(area_high, area);
    aspect_low = std::min(aspect_low, aspect), aspect_high = std::max(aspect_high, aspect);
    // Offsets are in [0, H-h) where there is room.
    REQUIRE((box.y < 240 - box.h || box.h == 240));
    REQUIRE((box.x < 320 - box.w || box.w == 320));
  }
  CHECK(area_low < 0.09);
  CHECK(area_high > 0.68);
  CHECK(aspect_low < 0.76);
  CHECK(aspect_low > 0.73);  // rounding of the width moves it a little
  CHECK(aspect_high > 1.31);
  CHECK(aspect_high < 1.36);
}

TEST_CASE("inception_crop: impossible wishes give the whole picture, tiny pictures work") {
  RngStream rng(RngKey(4, Purpose::kTest));
  const CropBox whole = data::draw_inception_crop(10, 100, {0.9, 1.0, 0.75, 1.33}, rng);
  CHECK(whole == CropBox{10, 100, 0, 0, false});
  for (int i = 0; i < 100; ++i) {
    CHECK(data::draw_inception_crop(1, 1, {}, rng) == CropBox{1, 1, 0, 0, false});
    CHECK(data::draw_inception_crop(3, 2, {}, rng).inside(3, 2));
    CHECK(data::draw_inception_crop(500, 3, {}, rng).inside(500, 3));
  }
}
