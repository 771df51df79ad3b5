#include "data/transform/resize_pil.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/error.h"

namespace data {
namespace {

constexpr int kBits = 22;

// What one axis of an output is made of: weights of 22 bits for `count` input pixels from `first`.
struct Taps {
  int64_t first, count;
  std::vector<int32_t> weights;
};

std::vector<Taps> taps_of(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double support = std::max(scale, 1.0), steepness = 1.0 / support;
  std::vector<Taps> taps;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const auto end = std::min(in, static_cast<int64_t>(centre + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int64_t j = first; j < end; ++j) {
      const double distance = (static_cast<double>(j) - centre + 0.5) * steepness;
      weights.push_back(std::max(0.0, 1.0 - std::abs(distance)));
      sum += weights.back();
    }
    Taps one{first, end - first, {}};
    for (const double w : weights) {
      one.weights.push_back(static_cast<int32_t>(0.5 + w / sum * (1 << kBits)));
    }
    taps.push_back(std::move(one));
  }
  return taps;
}

// The sum over the taps of a byte at `from` + j * stride, rounded.
uint8_t weighted(const uint8_t* from, int64_t stride, const Taps& taps) {
  int32_t sum = 1 << (kBits - 1);
  for (int64_t j = 0; j < taps.count; ++j) {
    sum += from[j * stride] * taps.weights[static_cast<size_t>(j)];
  }
  return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

}  // namespace

void resize_pil_bilinear(const ImageU8& in, int64_t height, int64_t width, ImageU8& scratch,
                         ImageU8& out) {
  engine::check(height > 0 && width > 0 && in.height > 0 && in.width > 0, engine::ErrorKind::kShape,
                "resize_pil_bilinear: ", in.height, " x ", in.width, " to ", height, " x ", width,
                ", expected sizes above 0");
  const int64_t channels = in.channels;
  scratch.reshape(in.height, width, channels);
  const std::vector<Taps> across = taps_of(in.width, width), down = taps_of(in.height, height);
  for (int64_t y = 0; y < in.height; ++y) {
    uint8_t* to = scratch.at(y, 0);
    for (const Taps& taps : across) {
      for (int64_t c = 0; c < channels; ++c) {
        *to++ = weighted(in.at(y, taps.first) + c, channels, taps);
      }
    }
  }
  out.reshape(height, width, channels);
  for (int64_t y = 0; y < height; ++y) {
    const Taps& taps = down[static_cast<size_t>(y)];
    const uint8_t* from = scratch.at(taps.first, 0);
    uint8_t* to = out.at(y, 0);
    for (int64_t i = 0; i < width * channels; ++i) {
      to[i] = weighted(from + i, width * channels, taps);
    }
  }
}

}  // namespace data
