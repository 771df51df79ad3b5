#include "data/transform/augment/color_jitter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "data/transform/augment/pixel_ops.h"

namespace data {
namespace {

// Pillow's "L": the luma of Rec. 601 in 16-bit fixed point.
uint8_t luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

}  // namespace

void adjust_contrast(ImageU8& image, float factor) {
  check_one_or_three(image, "colour jitter");
  const int64_t pixels = image.height * image.width;
  int64_t sum = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    const uint8_t* pixel = image.pixels.data() + i * image.channels;
    sum += image.channels == 3 ? luma(pixel) : *pixel;
  }
  // The mean, a half added and the fraction dropped.
  const auto mean = static_cast<double>(sum) / static_cast<double>(std::max<int64_t>(1, pixels));
  const auto grey = static_cast<float>(static_cast<int64_t>(mean + 0.5));
  blend_all(image, grey, factor);
}

void adjust_saturation(ImageU8& image, float factor) {
  check_one_or_three(image, "colour jitter");
  if (image.channels == 1) return;
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t* pixel = image.pixels.data() + i;
    const auto grey = static_cast<float>(luma(pixel));
    for (int c = 0; c < 3; ++c) pixel[c] = blend(grey, static_cast<float>(pixel[c]), factor);
  }
}

void jitter_colors(ImageU8& image, const ColorJitter& jitter, engine::RngStream& rng) {
  check_one_or_three(image, "colour jitter");
  std::array<int, 4> order = {0, 1, 2, 3};
  for (int64_t i = 3; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(rng.integer(0, i + 1))]);
  }
  const auto factor = [&rng](double v) {
    return static_cast<float>(rng.uniform(std::max(0.0, 1 - v), 1 + v));
  };
  for (const int which : order) {
    if (which == 0 && jitter.brightness > 0) brightness(image, factor(jitter.brightness));
    if (which == 1 && jitter.contrast > 0) adjust_contrast(image, factor(jitter.contrast));
    if (which == 2 && jitter.saturation > 0) adjust_saturation(image, factor(jitter.saturation));
    if (which == 3 && jitter.hue > 0) adjust_hue(image, rng.uniform(-jitter.hue, jitter.hue));
  }
}

}  // namespace data
