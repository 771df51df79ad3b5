#include "data/transform/augment/pixel_ops.h"

#include "engine/core/error.h"

namespace data {

void blend_all(ImageU8& image, float with, float factor) {
  uint8_t* __restrict bytes = image.pixels.data();
  const auto count = static_cast<int64_t>(image.pixels.size());
  for (int64_t i = 0; i < count; ++i) {
    bytes[i] = blend(with, static_cast<float>(bytes[i]), factor);
  }
}

void check_one_or_three(const ImageU8& image, const char* operation) {
  engine::check(image.channels == 1 || image.channels == 3, engine::ErrorKind::kShape, operation,
                ": a picture of ", image.channels, " channels, expected 1 or 3");
}

}  // namespace data
