#pragma once

#include "engine/core/tape.h"

namespace engine {

// Windows of a pooling: squares of `kernel`, `stride` apart, over a picture padded on all sides.
struct PoolOptions {
  int64_t kernel = 2;
  int64_t stride = 2;
  int64_t padding = 0;  // at most kernel / 2
};

// Largest value of each window and channel; what lies outside the picture does not count.
//
//   x        (B, H, W, C)  f32 or f64
//   returns  (B, (H + 2p - k)/s + 1, (W + 2p - k)/s + 1, C), divisions rounded down
//
// Gradient: dy to the pixel that was the largest, the first of equals in row-major order; windows
// that share it add up, in row-major order. A NaN in a window is its result. Saves which pixel it
// was, one byte each.
//
// Throws Error(kShape) when x is not (B, H, W, C) or a window is larger than the padded picture,
// Error(kValue) if x is not on a tape, kernel is not in 1 ... 15, stride < 1 or padding is not in
// 0 ... kernel / 2.
Tensor max_pool2d(const Tensor& x, const PoolOptions& options);

// Sum of each window and channel over kernel^2, zeros outside the picture included (PyTorch's
// default). Shapes and errors as above. Gradient: dy / kernel^2 to each pixel of the window.
Tensor average_pool2d(const Tensor& x, const PoolOptions& options);

}  // namespace engine
