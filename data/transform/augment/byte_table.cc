#include "data/transform/augment/pixel_ops.h"

namespace data {

void apply_table(ImageU8& image, const ByteTable& table, int64_t channel) {
  if (channel < 0) {
    for (uint8_t& v : image.pixels) v = table[v];
    return;
  }
  const auto count = static_cast<int64_t>(image.pixels.size());
  for (int64_t i = channel; i < count; i += image.channels) {
    image.pixels[static_cast<size_t>(i)] = table[image.pixels[static_cast<size_t>(i)]];
  }
}

}  // namespace data
