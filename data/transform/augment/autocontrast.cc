#include <algorithm>
#include <limits>

#include "data/transform/augment/pixel_ops.h"
#include "data/transform/planes.h"

namespace data {
namespace {

struct Range {
  int least = std::numeric_limits<uint8_t>::max(), largest = 0;
};

// Inlined, this and `stretch` would lose __restrict, and with it their vector code.
[[gnu::noinline]] void widen(const uint8_t* __restrict bytes, uint8_t* __restrict least,
                             uint8_t* __restrict largest) {
  for (int64_t i = 0; i < kPeriod; ++i) least[i] = std::min(least[i], bytes[i]);
  for (int64_t i = 0; i < kPeriod; ++i) largest[i] = std::max(largest[i], bytes[i]);
}

// The least and largest byte of each channel.
void find_ranges(const ImageU8& image, Range* ranges) {
  uint8_t least[kPeriod], largest[kPeriod];
  std::fill_n(least, kPeriod, std::numeric_limits<uint8_t>::max());
  std::fill_n(largest, kPeriod, uint8_t{0});
  const auto count = static_cast<int64_t>(image.pixels.size());
  const uint8_t* bytes = image.pixels.data();
  int64_t first = 0;
  for (; first + kPeriod <= count; first += kPeriod) widen(bytes + first, least, largest);
  for (int64_t i = first; i < count; ++i) {
    least[i - first] = std::min(least[i - first], bytes[i]);
    largest[i - first] = std::max(largest[i - first], bytes[i]);
  }
  for (int64_t i = 0; i < kPeriod; ++i) {
    Range& range = ranges[i % image.channels];
    range.least = std::min<int>(range.least, least[i]);
    range.largest = std::max<int>(range.largest, largest[i]);
  }
}

[[gnu::noinline]] void stretch(const float* __restrict scale, const float* __restrict offset,
                               int64_t count, uint8_t* __restrict bytes) {
  for (int64_t i = 0; i < count; ++i) {
    const float stretched = static_cast<float>(bytes[i]) * scale[i] + offset[i];
    bytes[i] = clipped_byte(stretched);
  }
}

}  // namespace

void autocontrast(ImageU8& image) {
  check_one_or_three(image, "autocontrast");
  Range ranges[3];
  find_ranges(image, ranges);
  float scale[kPeriod], offset[kPeriod];
  for (int64_t i = 0; i < kPeriod; ++i) {
    const Range& range = ranges[i % image.channels];
    const bool flat = range.largest <= range.least;
    scale[i] = flat ? 1.0f : 255.0f / static_cast<float>(range.largest - range.least);
    offset[i] = flat ? 0.0f : -static_cast<float>(range.least) * scale[i];
  }
  const auto count = static_cast<int64_t>(image.pixels.size());
  for (int64_t first = 0; first < count; first += kPeriod) {
    stretch(scale, offset, std::min(kPeriod, count - first), image.pixels.data() + first);
  }
}

}  // namespace data
