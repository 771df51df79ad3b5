#pragma once

#include <cstdint>

namespace data {

// Pictures keep the channels of a pixel together; loops over one channel at a time become vector
// code. These take `count` pixels of three channels apart and put them together again. None of the
// arrays may overlap.
inline constexpr int64_t kPlaneChunk = 256;  // pixels at a time that stay in the nearest cache

// A multiple of 1 and 3 channels and of all vector lengths: what holds for byte i of a picture
// holds for byte i + kPeriod.
inline constexpr int64_t kPeriod = 192;

inline void split3(const uint8_t* __restrict pixels, int64_t count, uint8_t* __restrict a,
                   uint8_t* __restrict b, uint8_t* __restrict c) {
  for (int64_t i = 0; i < count; ++i) {
    a[i] = pixels[3 * i];
    b[i] = pixels[3 * i + 1];
    c[i] = pixels[3 * i + 2];
  }
}

inline void join3(const uint8_t* __restrict a, const uint8_t* __restrict b,
                  const uint8_t* __restrict c, int64_t count, uint8_t* __restrict pixels) {
  for (int64_t i = 0; i < count; ++i) {
    pixels[3 * i] = a[i];
    pixels[3 * i + 1] = b[i];
    pixels[3 * i + 2] = c[i];
  }
}

// Channel c of `count` pixels to planes + c * stride.
inline void split_channels(const uint8_t* pixels, int64_t count, int64_t channels, uint8_t* planes,
                           int64_t stride) {
  if (channels == 3) return split3(pixels, count, planes, planes + stride, planes + 2 * stride);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < count; ++i) planes[c * stride + i] = pixels[i * channels + c];
  }
}

// Fractions are dropped; values from 0 to 255.
inline void truncate_to_bytes(const float* __restrict values, int64_t count,
                              uint8_t* __restrict bytes) {
  for (int64_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<uint8_t>(static_cast<int32_t>(values[i]));
  }
}

}  // namespace data
