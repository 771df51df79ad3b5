#include "data/transform/render_view.h"

#include <doctest/doctest.h>

#include <bit>
#include <numeric>

#include "data/transform/flip.h"
#include "data/transform/inception_crop.h"
#include "data/transform/pad_crop.h"
#include "engine/core/rng.h"
#include "tests/data/temp_folder.h"

using data::CropBox;
using data::ImageU8;
using data::Normaliser;
using data::ViewRenderer;
using data::test::error_of;
using engine::ErrorKind;
using engine::Purpose;
using engine::RngKey;
using engine::RngStream;

TEST_CASE("normalise: value range and statistics, exact values, planes") {
  const Normaliser range(2, -1, 1);
  CHECK(range.table(0)[0] == -1.0f);
  CHECK(range.table(1)[255] == 1.0f);
  CHECK(range.table(0)[51] == doctest::Approx(-0.6).epsilon(1e-6));
  const Normaliser unit(1, 0, 1);
  CHECK(unit.table(0)[51] == 0.2f);
  const Normaliser statistics({0.5f, 0.25f}, {0.25f, 0.5f});
  CHECK(statistics.table(0)[0] == -2.0f);
  CHECK(statistics.table(1)[255] == 1.5f);
  const ImageU8 image{1, 2, 2, {0, 255, 255, 0}};
  float out[4];
  statistics.apply(image, out);
  CHECK(out[0] == -2.0f);
  CHECK(out[1] == 2.0f);
  CHECK(out[2] == 1.5f);
  CHECK(out[3] == -0.5f);
  CHECK(error_of([] { Normaliser({0.5f}, {}); }).kind == ErrorKind::kValue);
  CHECK(error_of([] { Normaliser({0.5f}, {0.0f}); }).kind == ErrorKind::kValue);
  CHECK(error_of([] { Normaliser(1, 1, 1); }).kind == ErrorKind::kValue);
  CHECK(error_of([&] { range.apply(ImageU8{1, 1, 1, {0}}, out); }).kind == ErrorKind::kShape);
}

TEST_CASE("normalise: the same bits as the formula, whatever the numbers") {
  RngStream rng(RngKey(1, Purpose::kTest));
  ImageU8 all;
  all.reshape(16, 16, 1);
  std::iota(all.pixels.begin(), all.pixels.end(), uint8_t{0});
  int64_t different = 0;
  for (int i = 0; i < 300; ++i) {
    const auto a = static_cast<float>(rng.uniform(-2, 2)),
               b = static_cast<float>(rng.uniform(0.01, 3));
    float by_range[256], by_statistics[256];
    Normaliser(1, a, a + b).apply(all, by_range);
    Normaliser({a}, {b}).apply(all, by_statistics);
    const float width = static_cast<float>(double{a + b} - double{a});
    for (size_t v = 0; v < 256; ++v) {
      const float share = static_cast<float>(v) / 255.0f;
      const float scaled = share * width;
      different += std::bit_cast<uint32_t>(by_range[v]) != std::bit_cast<uint32_t>(a + scaled);
      different +=
          std::bit_cast<uint32_t>(by_statistics[v]) != std::bit_cast<uint32_t>((share - a) / b);
    }
  }
  CHECK(different == 0);
}

TEST_CASE("render_view: same bits as crop, resize, flip, normalise one after another") {
  const Normaliser normaliser({0.4f, 0.5f, 0.6f}, {0.2f, 0.3f, 0.4f});
  RngStream rng(RngKey(6, Purpose::kTest));
  for (const int64_t side : {1, 7, 28, 32}) {
    ViewRenderer renderer(normaliser, 28);
    ImageU8 image;
    image.reshape(side, side + 2, 3);
    for (uint8_t& v : image.pixels) v = static_cast<uint8_t>(rng.integer(0, 256));
    for (int i = 0; i < 60; ++i) {
      CropBox box = data::draw_inception_crop(side, side + 2, {}, rng);
      if (i % 3 == 1) box = data::draw_pad_crop(side, side + 2, 4, rng);
      if (i % 3 == 2) box = {28, 28, rng.integer(-9, 9), rng.integer(-9, 9), false};
      box.flip = i % 2 != 0;
      ImageU8 cropped, view;
      data::crop(image, box, cropped);
      data::resize(cropped, 28, 28, view);
      if (box.flip) data::flip(view);
      std::vector<float> want(3 * 28 * 28), got(3 * 28 * 28);
      normaliser.apply(view, want.data());
      renderer.render(image, box, got.data());
      CHECK(want == got);
    }
  }
}

TEST_CASE("render_view: wrong channels and empty boxes") {
  ViewRenderer renderer(Normaliser(3, 0, 1), 4);
  float out[3 * 16];
  CHECK(error_of([&] {
          renderer.render(ImageU8{1, 1, 1, {0}}, {1, 1, 0, 0}, out);
        }).kind == ErrorKind::kShape);
  CHECK(error_of([&] {
          renderer.render(ImageU8{1, 1, 3, {0, 0, 0}}, {0, 1, 0, 0}, out);
        }).kind == ErrorKind::kShape);
}
