#include "data/transform/augment/pixel_ops.h"

namespace data {

void brightness(ImageU8& image, float factor) {
  ByteTable table;
  for (size_t v = 0; v < 256; ++v) table[v] = blend(0, static_cast<float>(v), factor);
  apply_table(image, table);
}

}  // namespace data
