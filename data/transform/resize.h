#pragma once

#include <cstdint>
#include <vector>

#include "data/crop_box.h"
#include "data/dataset.h"

namespace data {

// Bilinear resize with half-pixel centres and without antialiasing, as TensorFlow's
// tf.image.resize does it (vmoe: data/pp_ops.py). Along each axis, n pixels to m:
//
//   s = (i + 1/2) * (n / m) - 1/2,   low = max(floor(s), 0),   high = min(ceil(s), n - 1)
//   t = s - floor(s),                value = v[low] + (v[high] - v[low]) * t
//
// columns first, then rows, every operation rounded to f32.
//
// Produces the output row by row, one plane a channel, so that whoever asks for a row may
// store it in any form. Neighbouring output rows share source rows; both are kept. Nothing may be
// fused here: a byte truncated from the result could differ by one (-ffp-contract=off).
class BilinearRows {
 public:
  // Makes the next rows come from `box` of `image`, resized to height x width and mirrored if
  // the box says so. The box must lie inside the picture. `image` must outlive the rows.
  // Allocates only for a size larger than before.
  void start(const ImageU8& image, const CropBox& box, int64_t height, int64_t width);

  // Output row y, (channels, width); valid until the next call.
  const float* row(int64_t y);

 private:
  // What one output pixel is made of, along one axis.
  struct Axis {
    std::vector<int32_t> low, high;
    std::vector<float> weight;
    void set(int64_t in, int64_t out);
  };
  const float* source_row(int64_t y, int keep);
  const uint8_t* readable_row(int64_t y);

  const ImageU8* image_ = nullptr;
  CropBox box_;
  int64_t width_ = 0, channels_ = 0;
  Axis rows_, columns_;
  std::vector<int32_t> left_, right_;  // (width) byte offsets in a source row
  std::vector<float> weight_;          // (width)
  std::vector<float> cache_[2];        // (channels * width) source rows resized along x
  int64_t cached_[2] = {-1, -1};       // which source rows these are
  std::vector<uint32_t> from_, to_;    // (width) pixels
  std::vector<float> out_;
  std::vector<uint8_t> last_row_;
};

// Resizes `in` to height x width; values are truncated to bytes. `out` must not be `in`.
// Throws Error(kShape) for an empty size.
void resize(const ImageU8& in, int64_t height, int64_t width, ImageU8& out);

}  // namespace data
