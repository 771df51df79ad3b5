#include "data/transform/resize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/core/rng.h"
#include "tests/data/temp_folder.h"

using data::BilinearRows;
using data::ImageU8;
using data::resize;
using data::test::Bytes;

namespace {

ImageU8 make(int64_t h, int64_t w, int64_t c, const Bytes& pixels) { return {h, w, c, pixels}; }

ImageU8 noise(int64_t h, int64_t w, int64_t c) {
  ImageU8 image;
  image.reshape(h, w, c);
  const engine::RngKey key(5, engine::Purpose::kTest);
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<uint8_t>(key.below(i, 256));
  }
  return image;
}

// The definition, in f64.
double bilinear(const ImageU8& in, int64_t oh, int64_t ow, int64_t y, int64_t x, int64_t c) {
  const auto axis = [](int64_t i, int64_t n, int64_t m) {
    return (static_cast<double>(i) + 0.5) * static_cast<double>(n) / static_cast<double>(m) - 0.5;
  };
  const double sy = axis(y, in.height, oh), sx = axis(x, in.width, ow);
  const auto pixel = [&](double py, double px) {
    const auto iy = std::clamp<int64_t>(static_cast<int64_t>(py), 0, in.height - 1);
    const auto ix = std::clamp<int64_t>(static_cast<int64_t>(px), 0, in.width - 1);
    return static_cast<double>(in.at(iy, ix)[c]);
  };
  const double y0 = std::floor(sy), x0 = std::floor(sx), ty = sy - y0, tx = sx - x0;
  return (1 - ty) * ((1 - tx) * pixel(y0, x0) + tx * pixel(y0, x0 + 1)) +
         ty * ((1 - tx) * pixel(y0 + 1, x0) + tx * pixel(y0 + 1, x0 + 1));
}

}  // namespace

TEST_CASE("resize: worked values, half-pixel centres, truncated") {
  ImageU8 out;
  // [0, 100] to 4: places -.25, .25, .75, 1.25, values 0, 25, 75, 100.
  resize(make(1, 2, 1, {0, 100}), 1, 4, out);
  CHECK(out.pixels == Bytes{0, 25, 75, 100});
  // [0, 255] to 4: 63.75 and 191.25 lose their fraction.
  resize(make(2, 1, 1, {0, 255}), 4, 1, out);
  CHECK(out.pixels == Bytes{0, 63, 191, 255});
  // 4 to 2 reads two neighbours, not all (no antialiasing): .5 and 2.5.
  resize(make(1, 4, 1, {0, 11, 200, 100}), 1, 2, out);
  CHECK(out.pixels == Bytes{5, 150});
  // 5 to 2: places .75 and 3.25.
  resize(make(1, 5, 1, {10, 50, 99, 200, 100}), 1, 2, out);
  CHECK(out.pixels == Bytes{40, 175});
  // 2 x 2 to 3 x 3: the centre is the mean (10 + 20 + 30 + 47) / 4 = 26.75.
  resize(make(2, 2, 1, {10, 20, 30, 47}), 3, 3, out);
  CHECK(out.pixels == Bytes{10, 15, 20, 20, 26, 33, 30, 38, 47});
  // Two channels do not mix.
  resize(make(1, 2, 2, {0, 200, 100, 0}), 1, 4, out);
  CHECK(out.pixels == Bytes{0, 200, 25, 150, 75, 50, 100, 0});
}

TEST_CASE("resize: one pixel, same size, one colour") {
  ImageU8 out;
  resize(make(1, 1, 3, {7, 8, 9}), 2, 3, out);
  CHECK(out.pixels == Bytes{7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9});
  const ImageU8 image = noise(5, 7, 3);
  resize(image, 5, 7, out);
  CHECK(out.pixels == image.pixels);
  resize(image, 1, 1, out);
  CHECK(std::vector<uint8_t>(image.at(2, 3), image.at(2, 3) + 3) == out.pixels);
  ImageU8 grey;
  grey.reshape(13, 9, 1);
  std::fill(grey.pixels.begin(), grey.pixels.end(), uint8_t{201});
  resize(grey, 31, 32, out);
  CHECK(std::all_of(out.pixels.begin(), out.pixels.end(), [](uint8_t v) { return v == 201; }));
}

TEST_CASE("resize: the definition in f64") {
  for (const auto& [h, w, oh, ow] :
       {std::array<int64_t, 4>{28, 28, 32, 32}, {7, 31, 32, 32}, {32, 32, 13, 17}, {1, 9, 5, 4}}) {
    const ImageU8 in = noise(h, w, 3);
    ImageU8 out;
    resize(in, oh, ow, out);
    BilinearRows rows;
    rows.start(in, {in.height, in.width, 0, 0, false}, oh, ow);
    int64_t wrong = 0;
    double worst = 0;
    for (int64_t y = 0; y < oh; ++y) {
      const float* row = rows.row(y);
      for (int64_t x = 0; x < ow; ++x) {
        for (int64_t c = 0; c < 3; ++c) {
          const double want = bilinear(in, oh, ow, y, x, c);
          worst = std::max(worst, std::abs(want - static_cast<double>(row[c * ow + x])));
          // Where the exact value is next to an integer f32 may fall on either side.
          const bool clear = std::abs(want - std::nearbyint(want)) > 1e-3;
          wrong += clear && out.at(y, x)[c] != static_cast<uint8_t>(want);
        }
      }
    }
    CHECK(worst < 1e-3);  // places are f32: 32 * 2^-24 * 255
    CHECK(wrong == 0);
  }
}

TEST_CASE("resize: products are rounded before they are added") {
  // (b - a) * t and a + that, each rounded to f32, is not what one fused instruction gives;
  // counted over many pixels both must occur, and the function must take the former.
  const ImageU8 in = noise(1, 19, 1);
  BilinearRows rows;
  rows.start(in, {1, 19, 0, 0, false}, 1, 97);
  const float* row = rows.row(0);
  int64_t fused_differs = 0, wrong = 0;
  for (int64_t x = 0; x < 97; ++x) {
    const volatile float scaled = (static_cast<float>(x) + 0.5f) * (19.0f / 97.0f);
    const float place = scaled - 0.5f, t = place - std::floor(place);
    const auto low = std::max<int64_t>(static_cast<int64_t>(std::floor(place)), 0);
    const int64_t high = std::min<int64_t>(static_cast<int64_t>(std::ceil(place)), 18);
    const float a = in.pixels[low], b = in.pixels[high];
    const volatile float product = (b - a) * t;
    wrong += row[x] != a + product;
    fused_differs += std::fma(b - a, t, a) != a + product;
  }
  CHECK(wrong == 0);
  CHECK(fused_differs > 0);
}

TEST_CASE("resize: an empty size") {
  ImageU8 out;
  CHECK(data::test::error_of([&] { resize(noise(2, 2, 1), 0, 3, out); }).kind ==
        engine::ErrorKind::kShape);
}
