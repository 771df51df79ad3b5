#include "data/transform/augment/warp.h"

#include <algorithm>
#include <cmath>

namespace data {
namespace {

constexpr uint8_t kGreyFill = 128;

}  // namespace

float reflected(float c, int64_t n) {
  const auto length = static_cast<float>(n), period = static_cast<float>(2 * n);
  if (c < 0) {
    if (c < period) c += period * std::trunc(-c / period);
    c = c < -length ? c + period : -c - 1;
  } else if (c > length - 1) {
    c -= period * std::trunc(c / period);
    if (c >= length) c = period - c - 1;
  }
  return std::clamp(c, 0.0f, length - 1);
}

void warp(const ImageU8& in, const Geometry& geometry, Border border, ImageU8& out) {
  out.reshape(in.height, in.width, in.channels);
  float p[6];
  for (int i = 0; i < 6; ++i) p[i] = static_cast<float>(geometry.pull[i]);
  const int64_t channels = in.channels;
  uint8_t* to = out.pixels.data();
  for (int64_t row = 0; row < in.height; ++row) {
    const auto out_y = static_cast<float>(row);
    for (int64_t column = 0; column < in.width; ++column, to += channels) {
      const auto out_x = static_cast<float>(column);
      float x = (p[0] * out_x + p[1] * out_y) + p[2], y = (p[3] * out_x + p[4] * out_y) + p[5];
      if (border == Border::kReflect) {
        x = reflected(x, in.width);
        y = reflected(y, in.height);
      }
      const float nearest_x = std::round(x), nearest_y = std::round(y);
      if (nearest_x < 0 || nearest_y < 0 || nearest_x >= static_cast<float>(in.width) ||
          nearest_y >= static_cast<float>(in.height)) {
        std::fill_n(to, channels, kGreyFill);
      } else {
        std::copy_n(in.at(static_cast<int64_t>(nearest_y), static_cast<int64_t>(nearest_x)),
                    channels, to);
      }
    }
  }
}

}  // namespace data
