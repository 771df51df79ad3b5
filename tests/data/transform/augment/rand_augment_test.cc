#include "data/transform/augment/rand_augment.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "data/transform/flip.h"
#include "data/transform/inception_crop.h"
#include "data/transform/render_view.h"
#include "data/two_view.h"
#include "tests/data/temp_folder.h"

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

// A picture whose pixels say where they are: (row, column, 255), and views of it made by crop,
// resize, flip and the geometric operations of RandAugment alone, with the map that says where
// places of the picture are in them.
struct Chain {
  ImageU8 view;
  Affine map;
  int64_t operations = 0;
  CropBox box;
};

constexpr int64_t kSide = 256, kView = 224, kPatch = 32;

ImageU8 coordinates() {
  ImageU8 image;
  image.reshape(kSide, kSide, 3);
  for (int64_t y = 0; y < kSide; ++y) {
    for (int64_t x = 0; x < kSide; ++x) {
      uint8_t* pixel = image.at(y, x);
      pixel[0] = static_cast<uint8_t>(y);
      pixel[1] = static_cast<uint8_t>(x);
      pixel[2] = 255;
    }
  }
  return image;
}

Chain random_chain(const ImageU8& image, RngStream& rng) {
  Chain chain;
  chain.box = data::draw_inception_crop(kSide, kSide, {0.25, 1, 0.75, 1.33}, rng);
  chain.box.flip = data::draw_flip(rng);
  data::ViewRenderer renderer(data::Normaliser(3, 0, 1), kView);
  renderer.cut(image, chain.box, chain.view);
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
    chain.map = augmenter.apply_one(chain.view, op, argument, 0, 0).after(chain.map);
    ++chain.operations;
  }
  return chain;
}

bool is_picture(const uint8_t* pixel) { return pixel[2] == 255; }

// A place of the picture, as the centre of what a pixel of the view shows.
struct Place {
  double row, column;
};
Place mapped(const Affine& map, Place p) {
  const double* m = map.m;
  return {m[0] * p.row + m[1] * p.column + m[2], m[3] * p.row + m[4] * p.column + m[5]};
}

}  // namespace

TEST_CASE(
    "randaugment: pixels are where the matrices say, to 1 px, 0.5 px an operation and half a "
    "byte") {
  const ImageU8 image = coordinates();
  double worst = 0;
  int64_t looked_at = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    RngStream rng(RngKey(i, Purpose::kTest));
    const Chain chain = random_chain(image, rng);
    // A byte is a place's number, its fraction dropped by the resize: half a pixel of the picture
    // more, in pixels of the view.
    const double byte =
        0.5 * static_cast<double>(kView) / static_cast<double>(std::min(chain.box.h, chain.box.w));
    for (int64_t y = 3; y < kView; y += 9) {
      for (int64_t x = 2; x < kView; x += 9) {
        const uint8_t* pixel = chain.view.at(y, x);
        if (!is_picture(pixel)) continue;
        const Place at = mapped(chain.map, {pixel[0] + 1.0, pixel[1] + 1.0});
        const double off = std::max(std::abs(at.row - (static_cast<double>(y) + 0.5)),
                                    std::abs(at.column - (static_cast<double>(x) + 0.5)));
        const double allowed = 1 + 0.5 * static_cast<double>(chain.operations) + byte;
        worst = std::max(worst, off / allowed);
        ++looked_at;
      }
    }
  }
  CHECK(looked_at > 50'000);
  CHECK(worst <= 1);
}

TEST_CASE("randaugment: a patch's partner is the patch that shows the same place") {
  const ImageU8 image = coordinates();
  constexpr int64_t kGrid = kView / kPatch;
  int64_t right = 0, wrong = 0, near_border = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    RngStream rng(RngKey(i, Purpose::kTest));
    Chain view1 = random_chain(image, rng), view2 = random_chain(image, rng);
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
      // What the centre shows, and what view 2 shows where its partner is said to be.
      const uint8_t* shown =
          view1.view.at(static_cast<int64_t>(centre.row), static_cast<int64_t>(centre.column));
      const uint8_t* found =
          view2.view.at(static_cast<int64_t>(to.row), static_cast<int64_t>(to.column));
      if (!is_picture(shown) || !is_picture(found)) continue;  // moved out, or came from outside
      const double rows = found[0] - shown[0], columns = found[1] - shown[1];
      const double* m = view2.map.m;
      const double off =
          std::max(std::abs(m[0] * rows + m[1] * columns), std::abs(m[3] * rows + m[4] * columns));
      const int32_t patch = static_cast<int32_t>(static_cast<int64_t>(to.row) / kPatch * kGrid +
                                                 static_cast<int64_t>(to.column) / kPatch);
      const double byte = std::max(1.0, std::hypot(m[0], m[3]));
      ++(off <= slack + byte && patch == match[p] ? right : wrong);
    }
  }
  CAPTURE(right);
  CAPTURE(wrong);
  CAPTURE(near_border);
  CHECK(right > 10'000);
  CHECK(wrong == 0);
  CHECK(right + wrong > 4 * near_border);  // at least 80 % can be told
}
