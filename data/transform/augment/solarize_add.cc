#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {

void solarize_add(ImageU8& image, int add) {
  ByteTable table;
  for (int v = 0; v < 256; ++v) {
    table[static_cast<size_t>(v)] = static_cast<uint8_t>(v < 128 ? std::clamp(v + add, 0, 255) : v);
  }
  apply_table(image, table);
}

}  // namespace data
