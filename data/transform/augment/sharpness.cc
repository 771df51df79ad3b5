#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {
namespace {

// The weighted mean of a pixel and its neighbours, in the order of their places.
uint8_t smoothed(const uint8_t* pixel, int64_t channels, int64_t row) {
  constexpr float kSide = 1.0f / 13.0f, kCentre = 5.0f / 13.0f;
  float sum = 0;
  for (int dy = -1; dy <= 1; ++dy) {
    for (int dx = -1; dx <= 1; ++dx) {
      const auto v = static_cast<float>(pixel[dy * row + dx * channels]);
      sum += v * (dx == 0 && dy == 0 ? kCentre : kSide);
    }
  }
  return static_cast<uint8_t>(std::clamp(sum, 0.0f, 255.0f));
}

}  // namespace

void sharpness(ImageU8& image, float factor, ImageU8& scratch) {
  scratch = image;
  const int64_t channels = image.channels, row = image.width * channels;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    const uint8_t* from = scratch.at(y, 0);
    uint8_t* to = image.at(y, 0);
    for (int64_t i = channels; i < row - channels; ++i) {
      to[i] = blend(static_cast<float>(smoothed(from + i, channels, row)),
                    static_cast<float>(from[i]), factor);
    }
  }
}

}  // namespace data
