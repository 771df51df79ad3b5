#include "data/transform/augment/pixel_ops.h"
#include "engine/core/error.h"

namespace data {

uint8_t grey_of(const uint8_t* rgb) {
  // Bytes to [0, 1], the weighted sum, and back with a half added and the fraction dropped.
  constexpr float kUnit = 1.0f / 255.0f;
  const float r = static_cast<float>(rgb[0]) * kUnit, g = static_cast<float>(rgb[1]) * kUnit,
              b = static_cast<float>(rgb[2]) * kUnit;
  const float grey = (r * 0.2989f + g * 0.587f) + b * 0.114f;
  return static_cast<uint8_t>(grey * 255.5f);
}

void color(ImageU8& image, float factor) {
  if (image.channels == 1) return;
  engine::check(image.channels == 3, engine::ErrorKind::kShape, "color: a picture of ",
                image.channels, " channels, expected 1 or 3");
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t* pixel = image.pixels.data() + i;
    const auto grey = static_cast<float>(grey_of(pixel));
    for (int c = 0; c < 3; ++c) pixel[c] = blend(grey, static_cast<float>(pixel[c]), factor);
  }
}

}  // namespace data
