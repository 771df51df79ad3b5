#include "train/predict/seen_picture.h"

#include <algorithm>
#include <cmath>

#include "train/model.h"

namespace train {

data::ImageU8 seen_picture(const float* pixels, const Config& config) {
  const int64_t size = config.model.image_size, channels = config.model.channels;
  data::ImageU8 image;
  image.reshape(size, size, 3);
  for (int64_t c = 0; c < 3; ++c) {
    const int64_t from = channels == 3 ? c : 0;
    const double unit = pixel_unit(config, from), black = black_value(config, from);
    for (int64_t i = 0; i < size * size; ++i) {
      const double value = (static_cast<double>(pixels[from * size * size + i]) - black) / unit;
      image.pixels[static_cast<size_t>(i * 3 + c)] =
          static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
    }
  }
  return image;
}

}  // namespace train
