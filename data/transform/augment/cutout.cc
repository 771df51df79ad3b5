#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {

void cutout(ImageU8& image, int64_t row, int64_t column, int64_t half, uint8_t fill) {
  const int64_t left = std::max<int64_t>(0, column - half),
                right = std::min(image.width, column + half);
  if (left >= right) return;
  for (int64_t y = std::max<int64_t>(0, row - half); y < std::min(image.height, row + half); ++y) {
    std::fill(image.at(y, left), image.at(y, left) + (right - left) * image.channels, fill);
  }
}

}  // namespace data
