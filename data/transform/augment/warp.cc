#include "data/transform/augment/warp.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/error.h"

namespace data {
namespace {

constexpr uint8_t kGreyFill = 128;
constexpr int64_t kChunk = 256;  // columns done at once; their places stay in registers and cache

// Without branches, so that loops over them become vector code. Whole numbers are exact in f32, and
// so is x - whole(x): nothing here rounds but what `reflected` and TensorFlow's own formula round.
inline float whole(float x) { return static_cast<float>(static_cast<int32_t>(x)); }

inline float rounded(float x) {  // halves away from zero
  const float down = whole(x), step = x < 0 ? -1.0f : 1.0f;
  return std::abs(x - down) >= 0.5f ? down + step : down;
}

inline float mirrored(float c, float length, float period) {
  const float turns = whole(std::abs(c) / period) * period;
  const float low = c + turns, high = c - turns;
  const float below = low < -length ? low + period : -low - 1;
  const float above = high >= length ? period - high - 1 : high;
  const float inside = c < 0 ? below : above;
  const float least = inside < 0 ? 0.0f : inside;
  return least > length - 1 ? length - 1 : least;
}

// Which pixel each of `count` columns from `first` on shows, as a number; -1: none.
template <bool kMirrored>
void find_pixels(const float* p, int64_t row, int64_t first, int64_t count, const ImageU8& in,
                 int32_t* pixel) {
  const auto out_y = static_cast<float>(row), width = static_cast<float>(in.width),
             height = static_cast<float>(in.height);
  const auto stride = static_cast<int32_t>(in.width);
  for (int64_t i = 0; i < count; ++i) {
    const auto out_x = static_cast<float>(static_cast<int32_t>(first + i));
    float x = (p[0] * out_x + p[1] * out_y) + p[2], y = (p[3] * out_x + p[4] * out_y) + p[5];
    if constexpr (kMirrored) {
      x = mirrored(x, width, 2 * width);
      y = mirrored(y, height, 2 * height);
    }
    const float at_x = rounded(x), at_y = rounded(y);
    const bool outside = (at_x < 0) | (at_y < 0) | (at_x >= width) | (at_y >= height);
    const auto inner_x = static_cast<int32_t>(outside ? 0.0f : at_x),
               inner_y = static_cast<int32_t>(outside ? 0.0f : at_y);
    pixel[i] = outside ? -1 : inner_y * stride + inner_x;
  }
}

template <int kChannels>
void fetch(const ImageU8& in, const int32_t* pixel, int64_t count, int64_t channels, uint8_t* to) {
  const int64_t bytes = kChannels > 0 ? kChannels : channels;
  for (int64_t i = 0; i < count; ++i, to += bytes) {
    if (pixel[i] < 0) {
      std::fill_n(to, bytes, kGreyFill);
    } else {
      std::memcpy(to, in.pixels.data() + pixel[i] * bytes, static_cast<size_t>(bytes));
    }
  }
}

// Places must fit into 32-bit numbers.
void check_reach(const float* p, const ImageU8& in) {
  const auto width = static_cast<float>(in.width), height = static_cast<float>(in.height);
  for (int i : {0, 3}) {
    const float reach = std::abs(p[i]) * width + std::abs(p[i + 1]) * height + std::abs(p[i + 2]);
    engine::check(reach < 1e9f && in.width * in.height < int64_t{1} << 30,
                  engine::ErrorKind::kValue, "warp: a picture of ", in.height, " x ", in.width,
                  " pixels and places up to ", reach, " are more than it can do");
  }
}

}  // namespace

float reflected(float coordinate, int64_t n) {
  return mirrored(coordinate, static_cast<float>(n), static_cast<float>(2 * n));
}

void warp(const ImageU8& in, const Geometry& geometry, Border border, ImageU8& out) {
  out.reshape(in.height, in.width, in.channels);
  float p[6];
  for (int i = 0; i < 6; ++i) p[i] = static_cast<float>(geometry.pull[i]);
  check_reach(p, in);
  int32_t pixel[kChunk];
  for (int64_t row = 0; row < in.height; ++row) {
    for (int64_t first = 0; first < in.width; first += kChunk) {
      const int64_t count = std::min(kChunk, in.width - first);
      if (border == Border::kReflect) {
        find_pixels<true>(p, row, first, count, in, pixel);
      } else {
        find_pixels<false>(p, row, first, count, in, pixel);
      }
      uint8_t* to = out.at(row, first);
      if (in.channels == 3) {
        fetch<3>(in, pixel, count, 3, to);
      } else {
        fetch<0>(in, pixel, count, in.channels, to);
      }
    }
  }
}

}  // namespace data
