#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace data {

// A picture of f32 values, rows from top to bottom, channels interleaved.
struct ImageF32 {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<float> pixels;  // (height, width, channels)

  void reshape(int64_t h, int64_t w, int64_t c) {
    height = h, width = w, channels = c;
    pixels.resize(static_cast<size_t>(h * w * c));
  }
};

// Resizes by averaging areas as TensorFlow's tf.image.resize(method="area") does: output pixel i
// covers [i s, (i + 1) s) of the input, s = in / out, each input pixel counts by the part of it
// that is covered, and the sum is divided by s_y s_x. Every operation is rounded to f32 in
// TensorFlow's order, so that the bits are its bits; nothing is truncated. Error(kShape) for an
// empty size.
void resize_area(const ImageU8& in, int64_t height, int64_t width, ImageF32& out);

// The size of a picture of height x width whose shorter side is to be `shorter` (vmoe:
// data/pp_ops.py, resize_small): both sides times f32(shorter / min), rounded, halves to even.
struct Size {
  int64_t height, width;
  bool operator==(const Size&) const = default;
};
Size small_size(int64_t height, int64_t width, int64_t shorter);

}  // namespace data
