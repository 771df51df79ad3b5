#include "data/transform/augment/rand_augment.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "data/transform/flip.h"
#include "data/transform/inception_crop.h"
#include "data/transform/resize.h"
#include "data/two_view.h"
#include "tests/data/temp_folder.h"
#include "tests/support/sanitized.h"

using data::Affine;
using data::augment_argument;
using data::AugmentOp;
using data::CropBox;
using data::ImageU8;
using data::RandAugmentDialect;
using data::RandAugmenter;
using data::test::error_of;
using engine::Purpose;
using engine::RngKey;
using engine::RngStream;

namespace {

constexpr int kOps = 17;

ImageU8 noise_image(int64_t side, int64_t channels, uint64_t seed) {
  ImageU8 image;
  image.reshape(side, side, channels);
  RngStream rng(RngKey(seed, Purpose::kTest));
  for (uint8_t& v : image.pixels) v = static_cast<uint8_t>(rng.integer(0, 256));
  return image;
}

std::string bytes_of(const ImageU8& image) { return {image.pixels.begin(), image.pixels.end()}; }

bool is_geometric(AugmentOp op) {
  return op == AugmentOp::kRotate || op == AugmentOp::kShearX || op == AugmentOp::kShearY ||
         op == AugmentOp::kTranslateX || op == AugmentOp::kTranslateY;
}

}  // namespace

TEST_CASE("randaugment: what magnitudes mean") {
  struct Row {
    AugmentOp op;
    double at10, at15, at20;
  };
  const Row rows[] = {
      {AugmentOp::kRotate, 30, 45, 60},        {AugmentOp::kPosterize, 4, 6, 8},
      {AugmentOp::kSolarize, 0, 128, 0},       {AugmentOp::kSolarizeAdd, 110, 165, 220},
      {AugmentOp::kColor, 1.9, 2.8, 3.7},      {AugmentOp::kContrast, 1.9, 2.8, 3.7},
      {AugmentOp::kBrightness, 1.9, 2.8, 3.7}, {AugmentOp::kSharpness, 1.9, 2.8, 3.7},
      {AugmentOp::kShearX, 0.3, 0.45, 0.6},    {AugmentOp::kShearY, 0.3, 0.45, 0.6},
      {AugmentOp::kTranslateX, 100, 150, 200}, {AugmentOp::kTranslateY, 100, 150, 200},
      {AugmentOp::kCutout, 40, 60, 80},        {AugmentOp::kInvert, 0, 0, 0}};
  for (const RandAugmentDialect dialect : {RandAugmentDialect::kVmoe, RandAugmentDialect::kPrc}) {
    for (const Row& row : rows) {
      CAPTURE(data::augment_op_name(row.op));
      CHECK(augment_argument(row.op, 10, dialect) == doctest::Approx(row.at10).epsilon(1e-12));
      CHECK(augment_argument(row.op, 15, dialect) == doctest::Approx(row.at15).epsilon(1e-12));
      CHECK(augment_argument(row.op, 20, dialect) == doctest::Approx(row.at20).epsilon(1e-12));
    }
    CHECK(augment_argument(AugmentOp::kPosterize, 40, dialect) == 8);
  }
  // Without the accidents both grow stronger with the magnitude.
  const auto literal = [](AugmentOp op, double m) {
    return augment_argument(op, m, RandAugmentDialect::kLiteral);
  };
  CHECK(literal(AugmentOp::kPosterize, 5) == 6);
  CHECK(literal(AugmentOp::kPosterize, 10) == 4);
  CHECK(literal(AugmentOp::kPosterize, 30) == 0);
  CHECK(literal(AugmentOp::kSolarize, 0) == 256);
  CHECK(literal(AugmentOp::kSolarize, 5) == 128);
  CHECK(literal(AugmentOp::kSolarize, 10) == 0);
  CHECK(literal(AugmentOp::kSolarize, 20) == 0);
}

TEST_CASE("randaugment: dialects differ in borders, contrast and nothing else") {
  ImageU8 image = noise_image(24, 3, 1);
  for (uint8_t& v : image.pixels) v = static_cast<uint8_t>(20 + v / 2);  // room to stretch
  const auto made = [&](RandAugmentDialect dialect, AugmentOp op, double argument) {
    RandAugmenter augmenter({dialect, 1, 10});
    ImageU8 view = image;
    augmenter.apply_one(view, op, argument, 5, 6);
    return view.pixels;
  };
  for (int i = 0; i < kOps; ++i) {
    const auto op = static_cast<AugmentOp>(i);
    const double argument = op == AugmentOp::kTranslateX || op == AugmentOp::kTranslateY
                                ? 5
                                : augment_argument(op, 15, RandAugmentDialect::kVmoe);
    CAPTURE(data::augment_op_name(op));
    const auto vmoe = made(RandAugmentDialect::kVmoe, op, argument);
    CHECK((vmoe == made(RandAugmentDialect::kPrc, op, argument)) == !is_geometric(op));
    CHECK((vmoe == made(RandAugmentDialect::kLiteral, op, argument)) ==
          (op != AugmentOp::kContrast));
    CHECK((vmoe == image.pixels) == (op == AugmentOp::kIdentity));
  }
}

TEST_CASE("randaugment: operations, signs and centres are drawn uniformly") {
  constexpr int kDraws = 34'000;
  // The operation shows in what one layer makes of this picture: all of them differ.
  const ImageU8 image = noise_image(6, 1, 2);
  for (const RandAugmentDialect dialect : {RandAugmentDialect::kVmoe, RandAugmentDialect::kPrc}) {
    const int operations = dialect == RandAugmentDialect::kPrc ? 17 : 16;
    RandAugmenter augmenter({dialect, 1, 0.4});
    std::map<std::string, int> seen;
    int moved_down = 0, moved = 0;
    for (int i = 0; i < kDraws; ++i) {
      RngStream rng(RngKey(3, Purpose::kTest).with(static_cast<uint64_t>(i)));
      ImageU8 view = image;
      const Affine map = augmenter.apply(view, rng);
      ++seen[bytes_of(view)];
      if (map.m[2] != 0 && map.m[0] == 1 && map.m[1] == 0 && map.m[5] == 0) {
        ++moved;
        moved_down += map.m[2] > 0 ? 1 : 0;
      }
    }
    const double share = double{kDraws} / operations, spread = std::sqrt(share);
    CHECK(std::abs(moved - share) < 5 * spread);  // translate_y, both signs
    CHECK(std::abs(moved_down - share / 2) < 5 * spread);
    // Left as it is by color (one channel) and, of 17, by identity too.
    CHECK(seen[bytes_of(image)] > share);
  }
}

TEST_CASE("randaugment: a view is a function of its random numbers") {
  const ImageU8 image = noise_image(20, 3, 4);
  for (const RandAugmentDialect dialect :
       {RandAugmentDialect::kVmoe, RandAugmentDialect::kPrc, RandAugmentDialect::kLiteral}) {
    RandAugmenter one({dialect, 2, 10}), other({dialect, 2, 10});
    for (uint64_t i = 0; i < 200; ++i) {
      RngStream a(RngKey(i, Purpose::kTest)), b(RngKey(i, Purpose::kTest));
      ImageU8 x = image, y = image;
      if (i % 3 == 0) {  // what was done before leaves no trace
        ImageU8 junk = noise_image(20, 3, i);
        RngStream c(RngKey(i + 1000, Purpose::kTest));
        other.apply(junk, c);
      }
      CHECK(one.apply(x, a) == other.apply(y, b));
      CHECK(x.pixels == y.pixels);
    }
  }
  RandAugmenter augmenter({RandAugmentDialect::kVmoe, 1, 10});
  ImageU8 two;
  two.reshape(4, 4, 2);
  RngStream rng(RngKey(1, Purpose::kTest));
  CHECK(error_of([&] { augmenter.apply(two, rng); }).kind == engine::ErrorKind::kShape);
}

namespace {

// A view made by crop, resize, flip and the geometric operations of RandAugment alone, with the map
// that says where places of the picture are in it, and what its pixels show as f32 coordinates of
// the picture. Resizing a picture of coordinates gives these; the operations only move pixels, so a
// picture of 224 x 224 pixels' own rows and columns, which fit into bytes, goes through them.
struct Place {
  double row, column;
};

constexpr int64_t kChains = engine::test::kSanitized ? 100 : 1000;
constexpr int64_t kSide = 256, kView = 224, kPatch = 32;

struct Chain {
  std::vector<Place> resized;  // (kView, kView)
  ImageU8 moved;               // row and column in `resized`, 255
  Affine map;
  int64_t operations = 0;
  CropBox box;

  bool shows_picture(int64_t y, int64_t x) const { return moved.at(y, x)[2] == 255; }
  // At the corner that the four pixels around (y, x) share.
  bool shows_corner(int64_t y, int64_t x) const {
    return shows_picture(y - 1, x - 1) && shows_picture(y - 1, x) && shows_picture(y, x - 1) &&
           shows_picture(y, x);
  }
  Place shown_at_corner(int64_t y, int64_t x) const {
    const Place a = shown(y - 1, x - 1), b = shown(y - 1, x), c = shown(y, x - 1), d = shown(y, x);
    return {(a.row + b.row + c.row + d.row) / 4, (a.column + b.column + c.column + d.column) / 4};
  }
  Place shown(int64_t y, int64_t x) const {
    const uint8_t* from = moved.at(y, x);
    return resized[static_cast<size_t>(from[0] * kView + from[1])];
  }
};

ImageU8 own_places(int64_t side) {
  ImageU8 image;
  image.reshape(side, side, 3);
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      const uint8_t pixel[] = {static_cast<uint8_t>(y), static_cast<uint8_t>(x), 255};
      std::copy_n(pixel, 3, image.at(y, x));
    }
  }
  return image;
}

std::vector<Place> resized_places(const CropBox& box) {
  static const ImageU8 image = own_places(kSide);
  data::BilinearRows rows;
  rows.start(image, box, kView, kView);
  std::vector<Place> out;
  for (int64_t y = 0; y < kView; ++y) {
    const float* row = rows.row(y);
    for (int64_t x = 0; x < kView; ++x) {  // the centre of pixel 0 is at 0.5
      out.push_back({double{row[x]} + 0.5, double{row[kView + x]} + 0.5});
    }
  }
  return out;
}

Chain random_chain(RngStream& rng) {
  Chain chain;
  chain.box = data::draw_inception_crop(kSide, kSide, {0.25, 1, 0.75, 1.33}, rng);
  chain.box.flip = data::draw_flip(rng);
  chain.resized = resized_places(chain.box);
  chain.moved = own_places(kView);
  chain.map = data::view_map(chain.box, kView);
  RandAugmenter augmenter({RandAugmentDialect::kVmoe, 1, 10});  // grey where nothing is
  const AugmentOp moves[] = {AugmentOp::kRotate, AugmentOp::kShearX, AugmentOp::kShearY,
                             AugmentOp::kTranslateX, AugmentOp::kTranslateY};
  for (int layer = 0; layer < 2; ++layer) {
    const int64_t drawn = rng.integer(0, 17);
    if (drawn >= 5) continue;  // one of those that leave pixels where they are
    const AugmentOp op = moves[drawn];
    double argument = augment_argument(op, 10, RandAugmentDialect::kPrc);
    if (rng.uniform() < 0.5) argument = -argument;
    chain.map = augmenter.apply_one(chain.moved, op, argument, 0, 0).after(chain.map);
    ++chain.operations;
  }
  return chain;
}

Place mapped(const Affine& map, Place p) {
  const double* m = map.m;
  return {m[0] * p.row + m[1] * p.column + m[2], m[3] * p.row + m[4] * p.column + m[5]};
}

double apart(const Place& a, const Place& b) {
  return std::max(std::abs(a.row - b.row), std::abs(a.column - b.column));
}

}  // namespace

TEST_CASE("randaugment: pixels are where the matrices say, to 1 px and 0.5 px an operation") {
  double worst = 0;
  int64_t looked_at = 0;
  for (int64_t i = 0; i < kChains; ++i) {
    RngStream rng(RngKey(static_cast<uint64_t>(i), Purpose::kTest));
    const Chain chain = random_chain(rng);
    const double allowed = 1 + 0.5 * static_cast<double>(chain.operations);
    for (int64_t y = 3; y < kView; y += 9) {
      for (int64_t x = 2; x < kView; x += 9) {
        if (!chain.shows_picture(y, x)) continue;
        const Place here{static_cast<double>(y) + 0.5, static_cast<double>(x) + 0.5};
        worst = std::max(worst, apart(mapped(chain.map, chain.shown(y, x)), here) / allowed);
        ++looked_at;
      }
    }
  }
  CHECK(looked_at > 50 * kChains);
  CHECK(worst <= 1);
}

TEST_CASE("randaugment: a patch's partner is the patch that shows the same place") {
  constexpr int64_t kGrid = kView / kPatch;
  int64_t right = 0, wrong = 0, near_border = 0;
  double worst = 0;
  for (int64_t i = 0; i < kChains; ++i) {
    RngStream rng(RngKey(static_cast<uint64_t>(i), Purpose::kTest));
    Chain view1 = random_chain(rng), view2 = random_chain(rng);
    if (!data::first_is_view1(view1.box, view2.box)) std::swap(view1, view2);
    int32_t match[kGrid * kGrid];
    data::patch_match(view1.map, view2.map, kView, kPatch, match);
    const double slack = 1 + 0.5 * static_cast<double>(view1.operations + view2.operations);
    const Affine across = view2.map.after(view1.map.inverse());
    for (int64_t p = 0; p < kGrid * kGrid; ++p) {
      if (match[p] < 0) continue;
      const int64_t row = p / kGrid, column = p % kGrid;
      const Place centre{(static_cast<double>(row) + 0.5) * kPatch,
                         (static_cast<double>(column) + 0.5) * kPatch};
      const Place to = mapped(across, centre);
      const auto from_border = [](double c) {
        const double inside = c - kPatch * std::floor(c / kPatch);
        return std::min(inside, kPatch - inside);
      };
      if (std::min(from_border(to.row), from_border(to.column)) <= slack) {
        ++near_border;
        continue;
      }
      const auto y1 = static_cast<int64_t>(centre.row), x1 = static_cast<int64_t>(centre.column),
                 y2 = static_cast<int64_t>(to.row), x2 = static_cast<int64_t>(to.column);
      if (!view1.shows_corner(y1, x1) || !view2.shows_picture(y2, x2)) continue;
      // Where view 2 has what the centre shows, by what its own pixel says that is shown there.
      const Place want = mapped(view2.map, view1.shown_at_corner(y1, x1)),
                  has = mapped(view2.map, view2.shown(y2, x2));
      const Place there{static_cast<double>(y2) + 0.5 + want.row - has.row,
                        static_cast<double>(x2) + 0.5 + want.column - has.column};
      const auto patch = static_cast<int32_t>(static_cast<int64_t>(there.row) / kPatch * kGrid +
                                              static_cast<int64_t>(there.column) / kPatch);
      ++(apart(there, to) <= slack && patch == match[p] ? right : wrong);
      worst = std::max(worst, apart(there, to) / slack);
    }
  }
  CAPTURE(worst);
  CAPTURE(right);
  CAPTURE(wrong);
  CAPTURE(near_border);
  CHECK(right > 10 * kChains);
  CHECK(wrong == 0);
  CHECK(right + wrong > 4 * near_border);  // at least 80 % can be told
}
