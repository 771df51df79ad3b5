#include <algorithm>

#include "data/transform/augment/pixel_ops.h"

namespace data {
namespace {

int64_t mean_grey(const ImageU8& image) {
  int64_t sum = 0;
  const auto step = static_cast<size_t>(image.channels);
  for (size_t i = 0; i < image.pixels.size(); i += step) {
    sum += step == 3 ? grey_of(image.pixels.data() + i) : image.pixels[i];
  }
  return sum / std::max<int64_t>(1, image.height * image.width);
}

}  // namespace

void contrast(ImageU8& image, float factor, ContrastCentre centre) {
  check_one_or_three(image, "contrast");
  const int64_t grey = centre == ContrastCentre::kMean
                           ? mean_grey(image)
                           : std::min<int64_t>(image.height * image.width / 256, 255);
  blend_all(image, static_cast<float>(grey), factor);
}

}  // namespace data
