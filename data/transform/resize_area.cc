#include "data/transform/resize_area.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

// The input pixels that one output pixel covers along one axis, and how much of each.
struct Cover {
  int64_t first, end;  // of the input; the last may be one beyond it
  float begin, stop, scale;
  float weight(int64_t j) const {
    const auto left = static_cast<float>(j), right = static_cast<float>(j + 1);
    if (left < begin) return right > stop ? scale : right - begin;
    return right > stop ? stop - left : 1.0f;
  }
};

Cover cover_of(int64_t i, float scale) {
  const float begin = static_cast<float>(i) * scale, stop = static_cast<float>(i + 1) * scale;
  return {static_cast<int64_t>(std::floor(begin)), static_cast<int64_t>(std::ceil(stop)), begin,
          stop, scale};
}

// One channel of one row of the input, weighted along x.
float along_row(const ImageU8& in, int64_t y, int64_t channel, const Cover& x) {
  float sum = 0;
  for (int64_t j = x.first; j < x.end; ++j) {
    const auto value = static_cast<float>(in.at(y, std::min(j, in.width - 1))[channel]);
    const float part = value * x.weight(j);
    sum = j == x.first ? part : sum + part;
  }
  return sum;
}

}  // namespace

void resize_area(const ImageU8& in, int64_t height, int64_t width, ImageF32& out) {
  check(height > 0 && width > 0 && in.height > 0 && in.width > 0, ErrorKind::kShape,
        "resize_area: ", in.height, " x ", in.width, " to ", height, " x ", width,
        ", expected sizes above 0");
  out.reshape(height, width, in.channels);
  const float scale_y = static_cast<float>(in.height) / static_cast<float>(height),
              scale_x = static_cast<float>(in.width) / static_cast<float>(width);
  const float share = 1.0f / (scale_y * scale_x);
  float* to = out.pixels.data();
  for (int64_t row = 0; row < height; ++row) {
    const Cover y = cover_of(row, scale_y);
    for (int64_t column = 0; column < width; ++column) {
      const Cover x = cover_of(column, scale_x);
      for (int64_t c = 0; c < in.channels; ++c) {
        float sum = 0;
        for (int64_t j = y.first; j < y.end; ++j) {
          const float part = along_row(in, std::min(j, in.height - 1), c, x) * y.weight(j);
          sum = sum + part;
        }
        *to++ = sum * share;
      }
    }
  }
}

Size small_size(int64_t height, int64_t width, int64_t shorter) {
  const float ratio = static_cast<float>(shorter) / static_cast<float>(std::min(height, width));
  const auto scaled = [ratio](int64_t side) {
    return static_cast<int64_t>(std::nearbyint(static_cast<float>(side) * ratio));
  };
  return {scaled(height), scaled(width)};
}

}  // namespace data
