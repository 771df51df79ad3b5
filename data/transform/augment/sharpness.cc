#include <algorithm>

#include "data/transform/augment/pixel_ops.h"
#include "data/transform/planes.h"

namespace data {
namespace {

constexpr float kSide = 1.0f / 13.0f, kCentre = 5.0f / 13.0f;

inline float as_float(uint8_t v) { return static_cast<float>(v); }

// The functions below must not be inlined: they would lose __restrict, and with it vector code and
// most of their speed.

[[gnu::noinline]] void weigh(const uint8_t* __restrict bytes, int64_t count, float weight,
                             float* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = as_float(bytes[i]) * weight;
}

// Three rows of weighted bytes, and those of the middle one with the weight of the centre.
struct Weighted {
  static constexpr int64_t kSize = kPlaneChunk + 2 * 3;  // and a pixel on either side
  float above[kSize], here[kSize], below[kSize], centre[kSize];
};

// The weighted means of `count` bytes and their neighbours, summed in the order of their places.
[[gnu::noinline]] void smooth(const Weighted& in, int64_t count, int64_t channels,
                              float* __restrict means) {
  const int64_t one = channels, two = 2 * channels;
  for (int64_t i = 0; i < count; ++i) {
    float sum = in.above[i];
    sum += in.above[i + one];
    sum += in.above[i + two];
    sum += in.here[i];
    sum += in.centre[i + one];
    sum += in.here[i + two];
    sum += in.below[i];
    sum += in.below[i + one];
    sum += in.below[i + two];
    means[i] = sum;
  }
}

[[gnu::noinline]] void blend_row(const float* __restrict means, const uint8_t* __restrict here,
                                 int64_t count, float factor, uint8_t* __restrict out) {
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
  Weighted in;
  for (int64_t first = 0; first < count; first += kPlaneChunk) {
    const int64_t part = std::min(kPlaneChunk, count - first), all = part + 2 * channels;
    weigh(above + first, all, kSide, in.above);
    weigh(here + first, all, kSide, in.here);
    weigh(here + first, all, kCentre, in.centre);
    weigh(below + first, all, kSide, in.below);
    smooth(in, part, channels, means);
    blend_row(means, here + first + channels, part, factor, out + first);
  }
}

}  // namespace

void sharpness(ImageU8& image, float factor, ImageU8& scratch) {
  check_one_or_three(image, "sharpness");
  scratch = image;
  const int64_t channels = image.channels, count = (image.width - 2) * channels;
  for (int64_t y = 1; y + 1 < image.height; ++y) {
    sharpen_row(scratch.at(y - 1, 0), scratch.at(y, 0), scratch.at(y + 1, 0), count, channels,
                factor, image.at(y, 0) + channels);
  }
}

}  // namespace data
