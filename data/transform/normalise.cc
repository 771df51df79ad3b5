#include "data/transform/normalise.h"

#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

}  // namespace

Normaliser::Normaliser(int64_t channels, double low, double high) {
  check(low < high, ErrorKind::kValue, "normalise: value range ", low, " to ", high,
        ", expected the lower end first");
  const auto begin = static_cast<float>(low), width = static_cast<float>(high - low);
  for (int64_t c = 0; c < channels; ++c) {
    for (int x = 0; x < 256; ++x) {
      const float share = static_cast<float>(x) / 255.0f;
      const volatile float above = share * width;  // through memory: never fused with the sum
      table_.push_back(begin + above);
    }
  }
}

Normaliser::Normaliser(const std::vector<float>& mean, const std::vector<float>& stddev) {
  check(mean.size() == stddev.size(), ErrorKind::kValue, "normalise: ", mean.size(), " means and ",
        stddev.size(), " standard deviations, expected one of each a channel");
  for (size_t c = 0; c < mean.size(); ++c) {
    check(stddev[c] > 0, ErrorKind::kValue, "normalise: standard deviation ", stddev[c],
          " of channel ", c, ", expected a positive number");
    for (int x = 0; x < 256; ++x) {
      table_.push_back((static_cast<float>(x) / 255.0f - mean[c]) / stddev[c]);
    }
  }
}

void Normaliser::apply(const ImageU8& in, float* out) const {
  check(in.channels == channels(), ErrorKind::kShape, "normalise: ", in.channels,
        " channels, expected ", channels());
  const int64_t plane = in.height * in.width;
  for (int64_t c = 0; c < in.channels; ++c) {
    const float* values = table(c);
    const uint8_t* pixel = in.pixels.data() + c;
    for (int64_t p = 0; p < plane; ++p) out[c * plane + p] = values[pixel[p * in.channels]];
  }
}

}  // namespace data
