#include "data/transform/augment/color_jitter.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "data/transform/augment/pixel_ops.h"
#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

using data::ColorJitter;
using data::ImageU8;
using data::jitter_colors;
using data::test::error_of;

namespace {

ImageU8 image_of(int64_t channels) {
  ImageU8 image;
  image.reshape(6, 5, channels);
  image.pixels = data::test::pixels_of(6, 5, static_cast<int>(channels));
  return image;
}

engine::RngStream stream(int i) {
  return engine::RngStream(
      engine::RngKey(8, engine::Purpose::kTest).with(static_cast<uint64_t>(i)));
}

ImageU8 flat(uint8_t r, uint8_t g, uint8_t b) {
  ImageU8 image;
  image.reshape(1, 1, 3);
  image.pixels = {r, g, b};
  return image;
}

}  // namespace

TEST_CASE("color jitter: factors are uniform around 1, and never negative") {
  double least = 10, most = 0, sum = 0;
  const int n = 4000;
  for (int i = 0; i < n; ++i) {
    ImageU8 image = flat(100, 100, 100);
    engine::RngStream rng = stream(i);
    jitter_colors(image, {.brightness = 0.4}, rng);
    const double factor = image.pixels[0] / 100.0;
    least = std::min(least, factor);
    most = std::max(most, factor);
    sum += factor / n;
  }
  CHECK(least == doctest::Approx(0.6).epsilon(0.02));
  CHECK(most == doctest::Approx(1.4).epsilon(0.02));
  CHECK(sum == doctest::Approx(0.995).epsilon(0.02));  // fractions are dropped
  for (int i = 0; i < 200; ++i) {                      // from 0 on, not from -1
    ImageU8 image = flat(10, 10, 10);
    engine::RngStream rng = stream(i);
    jitter_colors(image, {.brightness = 2}, rng);
    CHECK(image.pixels[0] <= 30);
  }
}

TEST_CASE("color jitter: every order of two comes as often") {
  // Brightness first clips at 255 before contrast pulls the values together; later it does not.
  int first = 0, second = 0;
  for (int i = 0; i < 2000; ++i) {
    ImageU8 image;
    image.reshape(1, 2, 1);
    image.pixels = {100, 200};
    ImageU8 one = image, other = image;
    engine::RngStream rng = stream(i), again = stream(i);
    jitter_colors(image, {.brightness = 0.9, .contrast = 0.9}, rng);
    for (int draw = 0; draw < 3; ++draw) again.uniform();  // those of the order
    const float a = static_cast<float>(again.uniform(1 - 0.9, 1 + 0.9)),
                b = static_cast<float>(again.uniform(1 - 0.9, 1 + 0.9));
    data::brightness(one, a);
    data::adjust_contrast(one, b);
    data::adjust_contrast(other, a);
    data::brightness(other, b);
    CHECK((image.pixels == one.pixels || image.pixels == other.pixels));
    if (one.pixels == other.pixels) continue;
    first += image.pixels == one.pixels;
    second += image.pixels == other.pixels;
  }
  CHECK(first + second > 1000);
  CHECK(first == doctest::Approx(0.5 * (first + second)).epsilon(0.1));
}

TEST_CASE("color jitter: off leaves a picture alone, one channel has no colours") {
  for (const int64_t channels : {1, 3}) {
    ImageU8 image = image_of(channels);
    engine::RngStream rng = stream(1);
    CHECK_FALSE(ColorJitter{}.active());
    jitter_colors(image, {}, rng);
    CHECK(image.pixels == image_of(channels).pixels);
  }
  ImageU8 grey = image_of(1);
  engine::RngStream rng = stream(1);
  jitter_colors(grey, {.saturation = 0.5, .hue = 0.5}, rng);
  CHECK(grey.pixels == image_of(1).pixels);
  jitter_colors(grey, {.brightness = 0.5, .contrast = 0.5}, rng);
  CHECK(grey.pixels != image_of(1).pixels);
  ImageU8 two = image_of(2);
  CHECK(
      error_of([&] { jitter_colors(two, {.hue = 0.1}, rng); }).has("2 channels, expected 1 or 3"));
  CHECK(error_of([&] { data::adjust_hue(grey, 0.6); }).has("expected -0.5 to 0.5"));
}
