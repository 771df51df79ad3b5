#include <algorithm>
#include <array>

#include "data/transform/augment/pixel_ops.h"

namespace data {
namespace {

// What a byte becomes.
using ByteTable = std::array<uint8_t, 256>;
using Histogram = std::array<int64_t, 256>;

// What the bytes of a channel with this histogram become; false where they stay.
bool spread(const Histogram& histogram, ByteTable& table) {
  int64_t pixels = 0, last = 0;
  for (const int64_t h : histogram) {
    pixels += h;
    if (h > 0) last = h;
  }
  const int64_t step = (pixels - last) / 255;
  if (step == 0) return false;
  int64_t below = 0;
  for (size_t v = 0; v < 256; ++v) {
    table[v] = v == 0 ? uint8_t{0}
                      : static_cast<uint8_t>(std::min<int64_t>((below + step / 2) / step, 255));
    below += histogram[v];
  }
  return true;
}

// Neighbours mostly are alike, and a count that was just stored is late to be read: four
// histograms take turns.
template <size_t kChannels>
void count_bytes(const uint8_t* bytes, size_t count, Histogram* histograms) {
  constexpr size_t kTurns = 4, kStep = kTurns * kChannels;
  uint32_t counts[kStep][256] = {};
  size_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (size_t k = 0; k < kStep; ++k) ++counts[k][bytes[i + k]];
  }
  for (size_t k = 0; i + k < count; ++k) ++counts[k][bytes[i + k]];
  for (size_t k = 0; k < kStep; ++k) {
    for (size_t v = 0; v < 256; ++v) histograms[k % kChannels][v] += counts[k][v];
  }
}

template <size_t kChannels>
void look_up(const ByteTable* tables, size_t count, uint8_t* bytes) {
  for (size_t i = 0; i < count; i += kChannels) {
    for (size_t c = 0; c < kChannels; ++c) bytes[i + c] = tables[c][bytes[i + c]];
  }
}

}  // namespace

void equalize(ImageU8& image) {
  check_one_or_three(image, "equalize");
  const size_t count = image.pixels.size();
  uint8_t* bytes = image.pixels.data();
  Histogram histograms[3] = {};
  image.channels == 3 ? count_bytes<3>(bytes, count, histograms)
                      : count_bytes<1>(bytes, count, histograms);
  ByteTable tables[3];
  for (int64_t c = 0; c < image.channels; ++c) {
    if (spread(histograms[c], tables[c])) continue;
    for (size_t v = 0; v < 256; ++v) tables[c][v] = static_cast<uint8_t>(v);
  }
  image.channels == 3 ? look_up<3>(tables, count, bytes) : look_up<1>(tables, count, bytes);
}

}  // namespace data
