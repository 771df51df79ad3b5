#include <algorithm>

#include "data/transform/augment/pixel_ops.h"
#include "data/transform/planes.h"

namespace data {
namespace {

// Bytes to [0, 1], the weighted sum, and back with a half added and the fraction dropped.
inline uint8_t grey(uint8_t red, uint8_t green, uint8_t blue) {
  constexpr float kUnit = 1.0f / 255.0f;
  const float r = static_cast<float>(red) * kUnit, g = static_cast<float>(green) * kUnit,
              b = static_cast<float>(blue) * kUnit;
  const float sum = (r * 0.2989f + g * 0.587f) + b * 0.114f;
  return static_cast<uint8_t>(static_cast<int32_t>(sum * 255.5f));
}

void blend_plane(const uint8_t* __restrict with, float factor, int64_t count,
                 uint8_t* __restrict plane) {
  for (int64_t i = 0; i < count; ++i) {
    plane[i] = blend(static_cast<float>(with[i]), static_cast<float>(plane[i]), factor);
  }
}

}  // namespace

uint8_t grey_of(const uint8_t* rgb) { return grey(rgb[0], rgb[1], rgb[2]); }

void color(ImageU8& image, float factor) {
  check_one_or_three(image, "color");
  if (image.channels == 1) return;
  uint8_t r[kPlaneChunk], g[kPlaneChunk], b[kPlaneChunk], greys[kPlaneChunk];
  const int64_t pixels = image.height * image.width;
  for (int64_t first = 0; first < pixels; first += kPlaneChunk) {
    const int64_t count = std::min(kPlaneChunk, pixels - first);
    uint8_t* part = image.pixels.data() + 3 * first;
    split3(part, count, r, g, b);
    for (int64_t i = 0; i < count; ++i) greys[i] = grey(r[i], g[i], b[i]);
    for (uint8_t* plane : {r, g, b}) blend_plane(greys, factor, count, plane);
    join3(r, g, b, count, part);
  }
}

}  // namespace data
