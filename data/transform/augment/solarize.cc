#include "data/transform/augment/pixel_ops.h"

namespace data {

void solarize(ImageU8& image, int threshold) {
  for (uint8_t& v : image.pixels) {
    if (v >= threshold) v = static_cast<uint8_t>(255 - v);
  }
}

}  // namespace data
