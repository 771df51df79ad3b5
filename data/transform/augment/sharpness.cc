#include <algorithm>

#include "data/transform/augment/pixel_ops.h"
#include "data/transform/planes.h"

namespace data {
namespace {

constexpr float kSide = 1.0f / 13.0f, kCentre = 5.0f / 13.0f;

inline float as_float(uint8_t v) { return static_cast<float>(v); }

// The weighted means of `count` bytes and their neighbours, summed in the order of their places.
void smooth(const uint8_t* __restrict above, const uint8_t* __restrict here,
            const uint8_t* __restrict below, int64_t count, int64_t channels,
            float* __restrict means) {
  const int64_t one = channels, two = 2 * channels;
  for (int64_t i = 0; i < count; ++i) {
    float sum = as_float(above[i]) * kSide;
    sum += as_float(above[i + one]) * kSide;
    sum += as_float(above[i + two]) * kSide;
    sum += as_float(here[i]) * kSide;
    sum += as_float(here[i + one]) * kCentre;
    sum += as_float(here[i + two]) * kSide;
    sum += as_float(below[i]) * kSide;
    sum += as_float(below[i + one]) * kSide;
    sum += as_float(below[i + two]) * kSide;
    means[i] = sum;
  }
}

void blend_row(const float* __restrict means, const uint8_t* __restrict here, int64_t count,
               float factor, uint8_t* __restrict out) {
  for (int64_t i = 0; i < count; ++i) {
    const float mean = means[i] > 255 ? 255.0f : means[i];
    const auto smoothed = static_cast<float>(static_cast<int32_t>(mean));
    out[i] = blend(smoothed, as_float(here[i]), factor);
  }
}

// A row without its first and last pixel, from three rows of the picture.
void sharpen_row(const uint8_t* above, const uint8_t* here, const uint8_t* below, int64_t count,
                 int64_t channels, float factor, uint8_t* out) {
  float means[kPlaneChunk];
  for (int64_t first = 0; first < count; first += kPlaneChunk) {
    const int64_t part = std::min(kPlaneChunk, count - first);
    smooth(above + first, here + first, below + first, part, channels, means);
    blend_row(means, here + first + channels, part, factor, out + first);
  }
}

}  // namespace

void sharpness(ImageU8& image, float factor, ImageU8& scratch) {
  scratch = image;
  const int64_t channels = image.channels, count = (image.width - 2) * channels;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    sharpen_row(scratch.at(y - 1, 0), scratch.at(y, 0), scratch.at(y + 1, 0), count, channels,
                factor, image.at(y, 0) + channels);
  }
}

}  // namespace data
