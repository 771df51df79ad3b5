#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "data/transform/resize_area.h"

namespace data {

// Bytes to the numbers a model sees, f32:
//
//   value range   low + (x / 255) * (high - low)     (vmoe: value_range; -1, 1 there)
//   statistics    (x / 255 - mean[c]) / stddev[c]
//
// There are 256 results a channel, so they are computed once, each step rounded to f32, and
// looked up: the same bits however the program was compiled.
class Normaliser {
 public:
  Normaliser(int64_t channels, double low, double high);
  // One mean and deviation a channel. Throws Error(kValue) where their numbers differ or a
  // deviation is not positive.
  Normaliser(const std::vector<float>& mean, const std::vector<float>& stddev);

  int64_t channels() const { return static_cast<int64_t>(table_.size()) / 256; }
  // The 256 values of channel c.
  const float* table(int64_t c) const { return table_.data() + c * 256; }
  // Of `count` bytes of one channel. `out` must not overlap them.
  void look_up(const uint8_t* bytes, int64_t count, int64_t channel, float* out) const;
  // (H, W, C) bytes to (C, H, W) f32. Throws Error(kShape) for another number of channels.
  void apply(const ImageU8& in, float* out) const;
  // The same of values between bytes: of whole numbers the same bits.
  void apply(const ImageF32& in, float* out) const;

 private:
  // Of one channel, x in bytes.
  float value(int64_t channel, float x) const;
  // The table's values by vector code, faster than looking them up.
  void compute(const uint8_t* bytes, int64_t count, int64_t channel, float* out) const;
  void find_exact();

  std::vector<float> table_;           // (channels, 256)
  std::vector<float> offset_, scale_;  // (channels): low and high - low, or mean and deviation
  std::vector<bool> exact_;            // (channels): whether compute() gives the table, to the bit
  bool statistics_;
};

}  // namespace data
