#include "data/transform/augment/pixel_ops.h"

namespace data {

void solarize(ImageU8& image, int threshold) {
  if (threshold > 255) return;
  const auto least = static_cast<uint8_t>(threshold);
  for (uint8_t& v : image.pixels) v = v >= least ? static_cast<uint8_t>(255 - v) : v;
}

}  // namespace data
