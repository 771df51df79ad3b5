#include "data/transform/normalise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "data/transform/planes.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

// x / d by the reciprocal of d and one correction, a third of a division's time. Not always the
// same float: Normaliser compares.
inline float quotient(float x, float d, float reciprocal) {
#ifdef __FMA__
  const float near = x * reciprocal;
  return std::fma(std::fma(-near, d, x), reciprocal, near);
#else
  (void)reciprocal;
  return x / d;
#endif
}

void shift_and_scale(const uint8_t* __restrict bytes, int64_t count, float low, float width,
                     float* __restrict out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = low + quotient(static_cast<float>(bytes[i]), 255.0f, 1.0f / 255.0f) * width;
  }
}

void standardise(const uint8_t* __restrict bytes, int64_t count, float mean, float stddev,
                 float* __restrict out) {
  const float reciprocal = 1.0f / stddev;
  for (int64_t i = 0; i < count; ++i) {
    const float share = quotient(static_cast<float>(bytes[i]), 255.0f, 1.0f / 255.0f);
    out[i] = quotient(share - mean, stddev, reciprocal);
  }
}

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
  find_exact();
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
  find_exact();
}

void Normaliser::compute(const uint8_t* bytes, int64_t count, int64_t channel, float* out) const {
  const float a = offset_[static_cast<size_t>(channel)], b = scale_[static_cast<size_t>(channel)];
  statistics_ ? standardise(bytes, count, a, b, out) : shift_and_scale(bytes, count, a, b, out);
}

void Normaliser::find_exact() {
  std::array<uint8_t, 256> bytes;
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  std::array<float, 256> computed;
  for (int64_t c = 0; c < channels(); ++c) {
    compute(bytes.data(), 256, c, computed.data());
    exact_.push_back(std::memcmp(computed.data(), table(c), sizeof computed) == 0);
  }
}

void Normaliser::look_up(const uint8_t* bytes, int64_t count, int64_t channel, float* out) const {
  if (exact_[static_cast<size_t>(channel)]) return compute(bytes, count, channel, out);
  const float* values = table(channel);
  for (int64_t i = 0; i < count; ++i) out[i] = values[bytes[i]];
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
