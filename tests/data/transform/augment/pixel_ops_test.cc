#include "data/transform/augment/pixel_ops.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/data/temp_folder.h"

using data::ContrastCentre;
using data::ImageU8;
using data::test::error_of;
using engine::ErrorKind;

// The operations' worked numbers; whole pictures are compared with another implementation in
// tests/train/golden_randaugment_test.cc.
namespace {

using Bytes = std::vector<uint8_t>;

ImageU8 row_of(const Bytes& bytes, int64_t channels = 1) {
  return {1, static_cast<int64_t>(bytes.size()) / channels, channels, bytes};
}

// What an operation makes of a row of bytes of one channel.
template <class Op>
Bytes after(const Op& op, const Bytes& bytes, int64_t channels = 1) {
  ImageU8 image = row_of(bytes, channels);
  op(image);
  return image.pixels;
}

}  // namespace

TEST_CASE("augment: operations on single bytes") {
  CHECK(after([](ImageU8& i) { data::invert(i); }, {0, 1, 200, 255}) == Bytes{255, 254, 55, 0});
  const Bytes v = {0, 15, 16, 127, 128, 200, 255};
  CHECK(after([](ImageU8& i) { data::posterize(i, 4); }, v) == Bytes{0, 0, 16, 112, 128, 192, 240});
  CHECK(after([](ImageU8& i) { data::posterize(i, 8); }, v) == v);
  CHECK(after([](ImageU8& i) { data::posterize(i, 0); }, v) == Bytes(7, 0));
  CHECK(after([](ImageU8& i) { data::solarize(i, 128); }, v) == Bytes{0, 15, 16, 127, 127, 55, 0});
  CHECK(after([](ImageU8& i) { data::solarize(i, 0); }, {0, 200}) == Bytes{255, 55});
  CHECK(after([](ImageU8& i) { data::solarize(i, 256); }, v) == v);
  CHECK(after([](ImageU8& i) { data::solarize_add(i, 110); }, v) ==
        Bytes{110, 125, 126, 237, 128, 200, 255});
  CHECK(after([](ImageU8& i) { data::solarize_add(i, 220); }, {0, 50, 128}) ==
        Bytes{220, 255, 128});
  CHECK(after([](ImageU8& i) { data::brightness(i, 1.9f); }, {0, 100, 134, 135}) ==
        Bytes{0, 190, 254, 255});
  CHECK(error_of([] {
          ImageU8 image = row_of({1});
          data::posterize(image, 9);
        }).kind == ErrorKind::kValue);
}

TEST_CASE("augment: contrast of the published code is about pixels / 256") {
  ImageU8 image;
  image.reshape(224, 224, 1);
  const Bytes values = {0, 100, 192, 196, 255}, want = {0, 13, 188, 196, 255};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = values[i % 5];
  data::contrast(image, 1.9f, ContrastCentre::kHistogram);
  for (size_t i = 0; i < 10; ++i) CHECK(int{image.pixels[i]} == int{want[i % 5]});
  // Its mean grey is (4 * 40) / 5 = 40; the other form is about that.
  const Bytes five = {20, 30, 40, 50, 60};
  CHECK(after([](ImageU8& i) { data::contrast(i, 2, ContrastCentre::kMean); }, five) ==
        Bytes{0, 20, 40, 60, 80});
  // A picture of 5 pixels: 5 / 256 is 0, so the published form only brightens.
  CHECK(after([](ImageU8& i) { data::contrast(i, 2, ContrastCentre::kHistogram); }, five) ==
        Bytes{40, 60, 80, 100, 120});
  // 384 * 384 / 256 = 576 is clipped to 255.
  image.reshape(384, 384, 1);
  std::fill(image.pixels.begin(), image.pixels.end(), uint8_t{200});
  data::contrast(image, 1.5f, ContrastCentre::kHistogram);
  CHECK(int{image.pixels[0]} == 172);  // 255 - 1.5 * 55
}

TEST_CASE("augment: autocontrast and equalize, channel by channel") {
  const auto stretch = [](ImageU8& i) { data::autocontrast(i); };
  CHECK(after(stretch, {10, 20, 30}) == Bytes{0, 127, 255});
  CHECK(after(stretch, {7, 7, 7}) == Bytes{7, 7, 7});
  CHECK(after(stretch, {10, 5, 1, 30, 5, 2}, 3) == Bytes{0, 5, 0, 255, 5, 255});
  Bytes longer(3 * 129, 60);  // more than are done at once, the extremes in the last pixel
  longer[3 * 128] = 40;
  longer[3 * 128 + 1] = 80;
  const Bytes stretched = after(stretch, longer, 3);
  CHECK(Bytes(stretched.end() - 6, stretched.end()) == Bytes{255, 0, 60, 0, 255, 60});
  CHECK(error_of([&] { after(stretch, {1, 2}, 2); }).kind == ErrorKind::kShape);
  Bytes many(1200, 10);
  std::fill(many.begin() + 400, many.begin() + 700, uint8_t{50});
  std::fill(many.begin() + 700, many.end(), uint8_t{200});
  const Bytes even = after([](ImageU8& i) { data::equalize(i); }, many);
  CHECK(int{even[0]} == 0);
  CHECK(int{even[400]} == 200);
  CHECK(int{even[700]} == 255);
  CHECK(after([](ImageU8& i) { data::equalize(i); }, {1, 2, 3}) == Bytes{1, 2, 3});
  Bytes three(3600, 7);  // the same in the middle one of three channels
  for (size_t i = 0; i < 1200; ++i) three[3 * i + 1] = many[i];
  const Bytes spread = after([](ImageU8& i) { data::equalize(i); }, three, 3);
  for (const size_t i : {0u, 400u, 700u, 1199u}) {
    CHECK(Bytes{spread[3 * i], spread[3 * i + 1], spread[3 * i + 2]} == Bytes{7, even[i], 7});
  }
}

TEST_CASE("augment: color blends with grey, a grey picture has no colour") {
  const auto grey = [](ImageU8& i) { data::color(i, 0); };
  CHECK(after(grey, {255, 0, 0, 0, 255, 0, 0, 0, 255}, 3) ==
        Bytes{76, 76, 76, 149, 149, 149, 29, 29, 29});
  CHECK(after(grey, {80, 90}, 1) == Bytes{80, 90});
  const Bytes red = {200, 10, 10};
  CHECK(after([](ImageU8& i) { data::color(i, 1); }, red, 3) == red);
  CHECK(error_of([] {
          ImageU8 image = row_of({1, 2}, 2);
          data::color(image, 1);
        }).kind == ErrorKind::kShape);
}

TEST_CASE("augment: sharpness leaves the border, smooths by 1 and 5 of 13") {
  ImageU8 image{3, 3, 1, {13, 13, 13, 13, 130, 13, 13, 13, 26}}, scratch;
  const Bytes border = image.pixels;
  data::sharpness(image, 0, scratch);
  CHECK(int{image.pixels[4]} == 59);  // (7 * 13 + 26 + 5 * 130) / 13
  for (const size_t i : {0u, 1u, 2u, 3u, 5u, 6u, 7u, 8u}) CHECK(image.pixels[i] == border[i]);
  image.pixels = border;
  data::sharpness(image, 1.9f, scratch);
  CHECK(int{image.pixels[4]} == 193);  // 59 + 1.9 * 71
  for (const auto& [h, w] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {2, 5}, {5, 2}}) {
    ImageU8 thin;
    thin.reshape(h, w, 3);
    for (size_t i = 0; i < thin.pixels.size(); ++i) thin.pixels[i] = static_cast<uint8_t>(9 * i);
    const Bytes before = thin.pixels;
    data::sharpness(thin, 3, scratch);
    CHECK(thin.pixels == before);
  }
}

TEST_CASE("augment: cutout stays inside the picture") {
  const auto filled = [](int64_t row, int64_t column, int64_t half) {
    ImageU8 image;
    image.reshape(4, 5, 1);
    std::fill(image.pixels.begin(), image.pixels.end(), uint8_t{1});
    data::cutout(image, row, column, half, 128);
    int64_t count = 0;
    for (const uint8_t v : image.pixels) count += v == 128 ? 1 : 0;
    return count;
  };
  CHECK(filled(2, 2, 1) == 4);  // rows 1 and 2, columns 1 and 2
  CHECK(filled(0, 0, 2) == 4);
  CHECK(filled(3, 4, 2) == 9);
  CHECK(filled(0, 4, 40) == 20);
  CHECK(filled(1, 1, 0) == 0);
}
