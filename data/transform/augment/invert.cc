#include "data/transform/augment/pixel_ops.h"

namespace data {

void invert(ImageU8& image) {
  for (uint8_t& v : image.pixels) v = static_cast<uint8_t>(255 - v);
}

}  // namespace data
