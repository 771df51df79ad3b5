#include "data/two_view.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/transform/inception_crop.h"
#include "engine/core/rng.h"
#include "tests/data/temp_folder.h"

using data::CropBox;
using data::patch_match;
using data::test::error_of;
using engine::ErrorKind;
using engine::Purpose;
using engine::RngKey;
using engine::RngStream;

namespace {

using Match = std::vector<int32_t>;

Match match_of(const CropBox& view1, const CropBox& view2, int64_t size, int64_t patch) {
  Match match(static_cast<size_t>((size / patch) * (size / patch)), -7);
  patch_match(view1, view2, size, patch, match.data());
  return match;
}

// One coordinate of view 1 to view 2 by way of the picture, in f64.
double to_view2(double c, double size, double size1, double start1, bool flip1, double size2,
                double start2, bool flip2) {
  const double place = start1 + (flip1 ? size - c : c) * size1 / size;
  const double q = (place - start2) * size / size2;
  return flip2 ? size - q : q;
}

}  // namespace

TEST_CASE("patch_match: the worked example, and the views swapped") {
  const CropBox view1{100, 80, 20, 60, true}, view2{180, 200, 10, 5, false};
  // One-based pairs 1-3, 2-3, 3-2, 4-2, 5-7, 6-7, 7-6, 8-6, 9-7, 10-7, 11-6, 12-6, 13-11, …
  CHECK(match_of(view1, view2, 128, 32) == Match{2, 2, 1, 1, 6, 6, 5, 5, 6, 6, 5, 5, 10, 10, 9, 9});
  const Match swapped = match_of(view2, view1, 128, 32);
  CHECK(std::count(swapped.begin(), swapped.end(), -1) == 12);
}

TEST_CASE("patch_match: the same box, a mirrored one, boxes apart") {
  const CropBox box{50, 60, 3, 4, false}, mirrored{50, 60, 3, 4, true};
  CHECK(match_of(box, box, 12, 4) == Match{0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(match_of(mirrored, mirrored, 12, 4) == Match{0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(match_of(box, mirrored, 12, 4) == Match{2, 1, 0, 5, 4, 3, 8, 7, 6});
  CHECK(match_of(mirrored, box, 12, 4) == Match{2, 1, 0, 5, 4, 3, 8, 7, 6});
  CHECK(match_of(box, {50, 60, 103, 4, false}, 12, 4) == Match(9, -1));
  CHECK(match_of(box, {50, 60, 3, -196, false}, 12, 4) == Match(9, -1));
}

TEST_CASE("patch_match: an exact shift, and centres on a border round up") {
  // One patch down: the first row of view 1 is the second of view 2.
  CHECK(match_of({8, 8, 0, 0, false}, {8, 8, -4, 0, false}, 8, 4) == Match{2, 3, -1, -1});
  CHECK(match_of({8, 8, 0, 0, false}, {8, 8, 4, 0, false}, 8, 4) == Match{-1, -1, 0, 1});
  // Half a patch: centres fall on borders, grid coordinate 1/2 becomes 1 and -1/2 becomes 0.
  CHECK(match_of({8, 8, 0, 0, false}, {8, 8, 0, -2, false}, 8, 4) == Match{1, -1, 3, -1});
  CHECK(match_of({8, 8, 0, 0, false}, {8, 8, 0, 2, false}, 8, 4) == Match{0, 1, 2, 3});
}

TEST_CASE("patch_match: random crops against the way through the picture in f64") {
  RngStream rng(RngKey(8, Purpose::kTest));
  int64_t clear = 0, matched = 0;
  for (int i = 0; i < 400; ++i) {
    CropBox one = data::draw_inception_crop(97, 131, {}, rng);
    CropBox two = data::draw_inception_crop(97, 131, {}, rng);
    one.flip = rng.uniform() < 0.5, two.flip = rng.uniform() < 0.5;
    if (!data::first_is_view1(one, two)) std::swap(one, two);
    const int64_t patch = i % 2 != 0 ? 4 : 7, grid = 8, size = patch * grid;
    const Match match = match_of(one, two, size, patch);
    for (int64_t p = 0; p < grid * grid; ++p) {
      const auto s = static_cast<double>(size), unit = static_cast<double>(patch);
      const int64_t down = p / grid, right = p % grid;
      const double cy = (static_cast<double>(down) + 0.5) * unit;
      const double cx = (static_cast<double>(right) + 0.5) * unit;
      const double gy = to_view2(cy, s, double(one.h), double(one.y), false, double(two.h),
                                 double(two.y), false) /
                            unit -
                        0.5;
      const double gx = to_view2(cx, s, double(one.w), double(one.x), one.flip, double(two.w),
                                 double(two.x), two.flip) /
                            unit -
                        0.5;
      const double row = std::floor(gy + 0.5), column = std::floor(gx + 0.5);
      // Within rounding of a border f64 may fall on either side.
      if (std::abs(gy + 0.5 - std::nearbyint(gy + 0.5)) < 1e-9) continue;
      if (std::abs(gx + 0.5 - std::nearbyint(gx + 0.5)) < 1e-9) continue;
      const bool valid = row >= 0 && column >= 0 && row < 8 && column < 8;
      const int32_t want = valid ? static_cast<int32_t>(row * 8 + column) : -1;
      CHECK(match[p] == want);
      ++clear;
      matched += valid;
    }
  }
  CHECK(clear > 400 * 64 * 8 / 10);
  CHECK(matched > clear / 4);
  CHECK(matched < clear);
}

TEST_CASE("first_is_view1: the smaller crop, of equal ones the second drawn") {
  CHECK(data::first_is_view1({2, 3, 0, 0}, {3, 3, 0, 0}));
  CHECK_FALSE(data::first_is_view1({3, 3, 0, 0}, {2, 3, 0, 0}));
  CHECK_FALSE(data::first_is_view1({2, 6, 0, 0}, {3, 4, 0, 0}));
}

TEST_CASE("patch_match: sizes that do not fit") {
  int32_t match[16];
  CHECK(error_of([&] {
          patch_match(CropBox{1, 1, 0, 0}, CropBox{1, 1, 0, 0}, 30, 4, match);
        }).kind == ErrorKind::kShape);
  CHECK(error_of([&] {
          patch_match(CropBox{1, 0, 0, 0}, CropBox{1, 1, 0, 0}, 16, 4, match);
        }).kind == ErrorKind::kShape);
}

TEST_CASE("patch_match: maps of boxes give what boxes give, but for centres on a border") {
  RngStream rng(RngKey(8, Purpose::kTest));
  const auto on_border = [](double q) { return std::abs(q / 8 - std::round(q / 8)) < 1e-9; };
  int64_t same = 0, unexplained = 0;
  for (int i = 0; i < 300; ++i) {
    CropBox view1 = data::draw_inception_crop(150, 200, {}, rng),
            view2 = data::draw_inception_crop(150, 200, {}, rng);
    view1.flip = i % 2 != 0;
    view2.flip = i % 3 == 0;
    const data::Affine from = data::view_map(view1, 128), to = data::view_map(view2, 128);
    const data::Affine across = to.after(from.inverse());
    Match by_map(16 * 16);
    patch_match(from, to, 128, 8, by_map.data());
    const Match by_box = match_of(view1, view2, 128, 8);
    for (int p = 0; p < 16 * 16; ++p) {
      if (by_map[p] == by_box[p]) {
        ++same;
        continue;
      }
      const int centre_row = p / 16 * 8 + 4, centre_column = p % 16 * 8 + 4;
      const double row = across.m[0] * centre_row + across.m[2],
                   column = across.m[4] * centre_column + across.m[5];
      unexplained += on_border(row) || on_border(column) ? 0 : 1;
    }
  }
  CHECK(same > 70'000);
  CHECK(unexplained == 0);
}
