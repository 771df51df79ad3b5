#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {

void solarize_add(ImageU8& image, int add) {
  const auto step = static_cast<int16_t>(std::clamp(add, -255, 255));
  for (uint8_t& v : image.pixels) {
    const auto sum = static_cast<int16_t>(v + step);
    const auto low = sum < 0 ? int16_t{0} : sum;
    v = v < 128 ? static_cast<uint8_t>(low > 255 ? int16_t{255} : low) : v;
  }
}

}  // namespace data
