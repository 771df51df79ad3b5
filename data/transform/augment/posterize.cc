#include "data/transform/augment/pixel_ops.h"
#include "engine/core/error.h"

namespace data {

void posterize(ImageU8& image, int bits) {
  engine::check(bits >= 0 && bits <= 8, engine::ErrorKind::kValue, "posterize: ", bits,
                " bits, expected 0 to 8");
  const auto mask = static_cast<uint8_t>(0xff00 >> bits);
  for (uint8_t& v : image.pixels) v &= mask;
}

}  // namespace data
