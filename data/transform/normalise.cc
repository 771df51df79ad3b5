#include "data/transform/normalise.h"

#include <algorithm>

#include "data/transform/planes.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

}  // namespace

Normaliser::Normaliser(int64_t channels, double low, double high) : statistics_(false) {
  check(low < high, ErrorKind::kValue, "normalise: value range ", low, " to ", high,
        ", expected the lower end first");
  const auto begin = static_cast<float>(low), width = static_cast<float>(high - low);
  for (int64_t c = 0; c < channels; ++c) {
    offset_.push_back(begin);
    scale_.push_back(width);
    for (int x = 0; x < 256; ++x) table_.push_back(value(c, static_cast<float>(x)));
  }
}

Normaliser::Normaliser(const std::vector<float>& mean, const std::vector<float>& stddev)
    : offset_(mean), scale_(stddev), statistics_(true) {
  check(mean.size() == stddev.size(), ErrorKind::kValue, "normalise: ", mean.size(), " means and ",
        stddev.size(), " standard deviations, expected one of each a channel");
  for (size_t c = 0; c < mean.size(); ++c) {
    check(stddev[c] > 0, ErrorKind::kValue, "normalise: standard deviation ", stddev[c],
          " of channel ", c, ", expected a positive number");
    for (int x = 0; x < 256; ++x) {
      table_.push_back(value(static_cast<int64_t>(c), static_cast<float>(x)));
    }
  }
}

float Normaliser::value(int64_t channel, float x) const {
  const auto c = static_cast<size_t>(channel);
  const float share = x / 255.0f;
  if (statistics_) return (share - offset_[c]) / scale_[c];
  const volatile float above = share * scale_[c];  // through memory: never fused with the sum
  return offset_[c] + above;
}

void Normaliser::apply(const ImageF32& in, float* out) const {
  check(in.channels == channels(), ErrorKind::kShape, "normalise: ", in.channels,
        " channels, expected ", channels());
  const int64_t plane = in.height * in.width;
  for (int64_t c = 0; c < in.channels; ++c) {
    for (int64_t p = 0; p < plane; ++p) {
      out[c * plane + p] = value(c, in.pixels[static_cast<size_t>(p * in.channels + c)]);
    }
  }
}

// What the table says, computed: looking up is slower than a division in vector code.
void Normaliser::look_up(const uint8_t* __restrict bytes, int64_t count, int64_t channel,
                         float* __restrict out) const {
  const float a = offset_[static_cast<size_t>(channel)], b = scale_[static_cast<size_t>(channel)];
  if (statistics_) {
    for (int64_t i = 0; i < count; ++i) out[i] = (static_cast<float>(bytes[i]) / 255.0f - a) / b;
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = a + (static_cast<float>(bytes[i]) / 255.0f) * b;
  }
}

void Normaliser::apply(const ImageU8& in, float* out) const {
  check(in.channels == channels(), ErrorKind::kShape, "normalise: ", in.channels,
        " channels, expected ", channels());
  const int64_t plane = in.height * in.width;
  if (in.channels == 3) {
    uint8_t parts[3][kPlaneChunk];
    for (int64_t first = 0; first < plane; first += kPlaneChunk) {
      const int64_t count = std::min(kPlaneChunk, plane - first);
      split3(in.pixels.data() + 3 * first, count, parts[0], parts[1], parts[2]);
      for (int64_t c = 0; c < 3; ++c) {
        look_up(parts[c], count, c, out + c * plane + first);
      }
    }
    return;
  }
  for (int64_t c = 0; c < in.channels; ++c) {
    const float* values = table(c);
    const uint8_t* pixel = in.pixels.data() + c;
    for (int64_t p = 0; p < plane; ++p) out[c * plane + p] = values[pixel[p * in.channels]];
  }
}

}  // namespace data
