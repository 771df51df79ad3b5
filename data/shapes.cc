#include "data/shapes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "data/names.h"
#include "data/shape_outline.h"
#include "engine/core/error.h"
#include "engine/core/rng.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::fail;

using Colour = std::array<int64_t, 3>;

constexpr int64_t kMaxSide = 512;
constexpr int64_t kSub = 8;         // places are in eighths of a pixel
constexpr int64_t kTurn = 4096;     // a turn is a vector of this length
constexpr int64_t kCover = 16;      // 4 x 4 points are looked at where an edge crosses a pixel
constexpr int64_t kNoise = 64;      // noise is uniform in [-kNoise/2, kNoise/2)
constexpr int64_t kContrast = 150;  // least sum of channel differences, shape to background
constexpr int64_t kGrid = 6;        // blobs: random values at 6 x 6 places

enum class Pattern { kStripes, kChecks, kBlobs };

// Everything that makes picture i, drawn before its first pixel.
struct Scene {
  int64_t shape, centre_x, centre_y, reach, cosine, sine, inverse_radius;
  Colour fill, ground_a, ground_b;
  Pattern pattern;
  int64_t wave_x, wave_y, phase;
  std::array<int64_t, kGrid * kGrid> blobs;
  uint64_t noise;
};

Colour draw_colour(engine::RngStream& rng) {
  Colour colour{};
  for (int64_t& channel : colour) channel = rng.integer(20, 236);
  return colour;
}

int64_t difference(const Colour& a, const Colour& b) {
  return std::abs(a[0] - b[0]) + std::abs(a[1] - b[1]) + std::abs(a[2] - b[2]);
}

// A colour that stands out from both of the background's.
Colour draw_fill(const Scene& scene, engine::RngStream& rng) {
  Colour best{};
  int64_t best_contrast = -1;
  for (int attempt = 0; attempt < 32 && best_contrast < kContrast; ++attempt) {
    const Colour colour = draw_colour(rng);
    const int64_t contrast =
        std::min(difference(colour, scene.ground_a), difference(colour, scene.ground_b));
    if (contrast > best_contrast) best = colour, best_contrast = contrast;
  }
  return best;
}

// A direction uniform on the circle, without sine and cosine: a point of the disc, scaled.
void draw_turn(Scene& scene, engine::RngStream& rng) {
  int64_t x = 0, y = 0, square = 0;
  do {
    x = rng.integer(-kTurn, kTurn + 1);
    y = rng.integer(-kTurn, kTurn + 1);
    square = x * x + y * y;
  } while (square > kTurn * kTurn || square < kTurn * kTurn / 16);
  const double length = std::sqrt(static_cast<double>(square));
  scene.cosine = std::lrint(static_cast<double>(x * kTurn) / length);
  scene.sine = std::lrint(static_cast<double>(y * kTurn) / length);
}

Scene draw_scene(Split split, int64_t i, int64_t size) {
  const engine::RngKey key = engine::RngKey(0, engine::Purpose::kData)
                                 .with(split == Split::kTrain ? 0 : 1)
                                 .with(static_cast<uint64_t>(i));
  engine::RngStream rng(key);
  Scene scene{};
  scene.shape = i % kShapeClasses;
  const int64_t side = size * kSub;
  const int64_t radius = rng.integer(side * 26 / 100, side * 46 / 100);
  const int64_t margin = radius * 85 / 100;
  scene.centre_x = rng.integer(margin, side - margin);
  scene.centre_y = rng.integer(margin, side - margin);
  scene.reach = radius * kShapeReach / kShapeUnit + 2 * kSub;  // and a pixel more
  scene.inverse_radius = (int64_t{1} << 20) / radius;
  draw_turn(scene, rng);
  scene.ground_a = draw_colour(rng);
  scene.ground_b = draw_colour(rng);
  scene.fill = draw_fill(scene, rng);
  scene.pattern = static_cast<Pattern>(rng.integer(0, 3));
  const int64_t longest = 256 * 8 / size;  // one wave in an eighth of the side and more
  scene.wave_x = rng.integer(-longest, longest + 1);
  scene.wave_y = rng.integer(-longest, longest + 1);
  scene.phase = rng.integer(0, 256);
  for (int64_t& blob : scene.blobs) blob = rng.integer(0, 256);
  scene.noise = key.with(1).value();
  return scene;
}

// Whether the shape covers a point given in eighths of a pixel.
bool covers(const Scene& scene, int64_t x8, int64_t y8) {
  const int64_t dx = x8 - scene.centre_x, dy = y8 - scene.centre_y;
  const int64_t u = dx * scene.cosine + dy * scene.sine, v = dy * scene.cosine - dx * scene.sine;
  // (u / kTurn) * (kShapeUnit / radius), the radius as 2^20 / radius
  return inside_shape(scene.shape, (u * scene.inverse_radius) >> 22,
                      (v * scene.inverse_radius) >> 22);
}

using Row = std::array<uint8_t, kMaxSide + 1>;

// Which of the corners above pixel row y the shape covers: size + 1 of them.
void cover_corners(const Scene& scene, int64_t y, int64_t size, Row& corners) {
  const int64_t dy = y * kSub - scene.centre_y;
  for (int64_t x = 0; x <= size; ++x) {
    const int64_t dx = x * kSub - scene.centre_x;
    const bool near = dx * dx + dy * dy <= scene.reach * scene.reach;
    corners[x] = near && covers(scene, x * kSub, y * kSub);
  }
}

// How many of its kCover points the shape covers, for each pixel of a row, whose corners are
// given. Where the corners and the centre agree, so do all.
void cover_row(const Scene& scene, int64_t y, int64_t size, const Row& above, const Row& below,
               Row& row) {
  for (int64_t x = 0; x < size; ++x) {
    const int64_t x8 = x * kSub, y8 = y * kSub;
    const int64_t dx = x8 - scene.centre_x, dy = y8 - scene.centre_y;
    row[x] = 0;
    if (dx * dx + dy * dy > scene.reach * scene.reach) continue;  // far from the shape
    const int inside = above[x] + above[x + 1] + below[x] + below[x + 1] +
                       covers(scene, x8 + kSub / 2, y8 + kSub / 2);
    if (inside == 5) row[x] = kCover;
    if (inside == 0 || inside == 5) continue;
    for (int64_t sy = 1; sy < kSub; sy += 2) {
      for (int64_t sx = 1; sx < kSub; sx += 2) row[x] += covers(scene, x8 + sx, y8 + sy);
    }
  }
}

// Calls body(y, coverage of row y) for every row of a picture.
template <class Body>
void for_rows(const Scene& scene, int64_t size, Body&& body) {
  Row above, below, row;
  cover_corners(scene, 0, size, above);
  for (int64_t y = 0; y < size; ++y) {
    cover_corners(scene, y + 1, size, below);
    cover_row(scene, y, size, above, below, row);
    body(y, row);
    above = below;
  }
}

// How much of ground_b is in the background at (y, x), 0 to 255.
int64_t pattern_at(const Scene& scene, int64_t y, int64_t x, int64_t size) {
  const int64_t along = x * scene.wave_x + y * scene.wave_y + scene.phase;
  if (scene.pattern == Pattern::kStripes) return std::abs((along & 511) - 256) * 255 / 256;
  if (scene.pattern == Pattern::kChecks) {
    const int64_t across = y * scene.wave_x - x * scene.wave_y + scene.phase;
    return (((along >> 7) ^ (across >> 7)) & 1) * 255;
  }
  // Between the four blobs around the pixel, 256 steps from one to the next.
  const int64_t gy = y * (kGrid - 1) * 256 / size, gx = x * (kGrid - 1) * 256 / size;
  const int64_t* blob = scene.blobs.data() + (gy >> 8) * kGrid + (gx >> 8);
  const int64_t fy = gy & 255, fx = gx & 255;
  const int64_t top = blob[0] * (256 - fx) + blob[1] * fx;
  const int64_t bottom = blob[kGrid] * (256 - fx) + blob[kGrid + 1] * fx;
  return (top * (256 - fy) + bottom * fy) >> 16;
}

class Shapes final : public Dataset {
 public:
  Shapes(int64_t size, int64_t images, Split split) : images_(images), split_(split) {
    info_ = {"shapes", 3, size, size, kShapeClasses, {}};
    for (int64_t c = 0; c < kShapeClasses; ++c) info_.class_names.emplace_back(shape_name(c));
  }
  const Info& info() const override { return info_; }
  int64_t size() const override { return images_; }
  int64_t label(int64_t i) const override {
    check_index(i);
    return i % kShapeClasses;
  }
  void read(int64_t i, ImageU8& out) const override;
  bool parts(int64_t i, std::vector<uint8_t>& out) const override;

 private:
  void check_index(int64_t i) const {
    check(i >= 0 && i < images_, ErrorKind::kValue, "shapes: no image ", i, " in a set of ",
          images_);
  }
  Info info_;
  int64_t images_;
  Split split_;
};

void Shapes::read(int64_t i, ImageU8& out) const {
  check_index(i);
  const int64_t size = info_.height;
  const Scene scene = draw_scene(split_, i, size);
  out.reshape(size, size, 3);
  for_rows(scene, size, [&](int64_t y, const Row& coverage) {
    uint8_t* pixel = out.at(y, 0);
    for (int64_t x = 0; x < size; ++x, pixel += 3) {
      const int64_t shape = coverage[x], mix = pattern_at(scene, y, x, size);
      const uint64_t noise = engine::mix64(scene.noise + static_cast<uint64_t>(y * size + x));
      for (int64_t c = 0; c < 3; ++c) {
        const int64_t ground = (scene.ground_a[c] * (255 - mix) + scene.ground_b[c] * mix) / 255;
        const int64_t flat = (ground * (kCover - shape) + scene.fill[c] * shape) / kCover;
        const auto grain = static_cast<int64_t>((noise >> (16 * c)) % kNoise);
        pixel[c] = static_cast<uint8_t>(std::clamp<int64_t>(flat + grain - kNoise / 2, 0, 255));
      }
    }
  });
}

bool Shapes::parts(int64_t i, std::vector<uint8_t>& out) const {
  check_index(i);
  const int64_t size = info_.height;
  const Scene scene = draw_scene(split_, i, size);
  out.resize(static_cast<size_t>(size * size));
  for_rows(scene, size, [&](int64_t y, const Row& coverage) {
    for (int64_t x = 0; x < size; ++x) {
      out[y * size + x] = coverage[x] == 0 ? 0 : coverage[x] == kCover ? 2 : 1;
    }
  });
  const auto uncovered = [&](int64_t y, int64_t x) {
    return y >= 0 && x >= 0 && y < size && x < size && out[y * size + x] == 0;
  };
  for (int64_t p = 0; p < size * size; ++p) {
    const int64_t y = p / size, x = p % size;
    if (out[p] == 2 && (uncovered(y - 1, x) || uncovered(y + 1, x) || uncovered(y, x - 1) ||
                        uncovered(y, x + 1))) {
      out[p] = 1;
    }
  }
  return true;
}

struct Option {
  const char* name;
  int64_t value, least, most;
};

}  // namespace

std::unique_ptr<Dataset> open_shapes(const std::string& options, Split split) {
  Option known[] = {
      {"size", 32, 16, kMaxSide}, {"train", 10000, 1, INT32_MAX}, {"test", 2000, 1, INT32_MAX}};
  std::vector<std::string> names;
  for (const Option& option : known) names.emplace_back(option.name);
  for (size_t begin = 0; begin < options.size();) {
    const size_t end = std::min(options.find(',', begin), options.size());
    const std::string part = options.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = std::min(part.find('='), part.size());
    const std::string name = part.substr(0, equals);
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) {
      fail(ErrorKind::kValue, "shapes: unknown option \"", name, "\" in \"", options,
           "\"; did you mean \"", nearest_name(name, names), "\"? Options: ", join(names));
    }
    Option& option = known[it - names.begin()];
    const char* first = part.data() + std::min(equals + 1, part.size());
    const char* last = part.data() + part.size();
    const auto parsed = std::from_chars(first, last, option.value);
    check(parsed.ec == std::errc() && parsed.ptr == last && option.value >= option.least &&
              option.value <= option.most,
          ErrorKind::kValue, "shapes: \"", part, "\" in \"", options, "\", expected ", name,
          "=N with N from ", option.least, " to ", option.most);
  }
  const int64_t images = split == Split::kTrain ? known[1].value : known[2].value;
  return std::make_unique<Shapes>(known[0].value, images, split);
}

}  // namespace data
