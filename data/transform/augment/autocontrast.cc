#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {
namespace {

void stretch(ImageU8& image, int64_t channel) {
  const auto count = static_cast<int64_t>(image.pixels.size());
  int least = 255, largest = 0;
  for (int64_t i = channel; i < count; i += image.channels) {
    const int v = image.pixels[static_cast<size_t>(i)];
    least = std::min(least, v);
    largest = std::max(largest, v);
  }
  if (largest <= least) return;
  const float scale = 255.0f / static_cast<float>(largest - least);
  const float offset = -static_cast<float>(least) * scale;
  ByteTable table;
  for (int v = 0; v < 256; ++v) {
    const float stretched = static_cast<float>(v) * scale + offset;
    table[static_cast<size_t>(v)] = static_cast<uint8_t>(std::clamp(stretched, 0.0f, 255.0f));
  }
  apply_table(image, table, channel);
}

}  // namespace

void autocontrast(ImageU8& image) {
  for (int64_t c = 0; c < image.channels; ++c) stretch(image, c);
}

}  // namespace data
