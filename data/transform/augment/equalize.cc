#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {
namespace {

void equalize_channel(ImageU8& image, int64_t channel) {
  const auto count = static_cast<int64_t>(image.pixels.size());
  std::array<int64_t, 256> histogram{};
  for (int64_t i = channel; i < count; i += image.channels) {
    ++histogram[image.pixels[static_cast<size_t>(i)]];
  }
  int64_t pixels = 0, last = 0;
  for (const int64_t h : histogram) {
    pixels += h;
    if (h > 0) last = h;
  }
  const int64_t step = (pixels - last) / 255;
  if (step == 0) return;
  ByteTable table;
  int64_t below = 0;
  for (size_t v = 0; v < 256; ++v) {
    table[v] = v == 0 ? uint8_t{0}
                      : static_cast<uint8_t>(std::min<int64_t>((below + step / 2) / step, 255));
    below += histogram[v];
  }
  apply_table(image, table, channel);
}

}  // namespace

void equalize(ImageU8& image) {
  for (int64_t c = 0; c < image.channels; ++c) equalize_channel(image, c);
}

}  // namespace data
