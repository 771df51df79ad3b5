#pragma once

#include "engine/core/precision.h"
#include "engine/core/tape.h"

namespace engine {

struct Conv2dOptions {
  int64_t stride = 1;   // both axes
  int64_t padding = 0;  // zeros on all four sides
  Precision precision = Precision::kF32;
};

// Convolution (cross-correlation, as everywhere in the field) of pictures, channels last:
//   y[b,i,j,n] = bias[n] + sum_{u,v,c} x[b, i s + u - p, j s + v - p, c] weight[u,v,c,n]
// with stride s and padding p; x is zero outside.
//
//   x        (B, H, W, C)  f32 or f64
//   weight   (K, K, C, N), K at most 11; of PyTorch's (N, C, K, K) the transpose 2,3,1,0
//   bias     (N), or undefined for none
//   returns  (B, (H + 2p - K)/s + 1, (W + 2p - K)/s + 1, N), divisions rounded down
//
// Gradient: dx is a convolution of dy (for s > 1 one for each of the s*s classes of pixels that
// share their taps), dweight = windows(x)^T dy, dbias = sum of dy. What nobody wants is not
// computed. Saves x. In bf16 the products' operands are rounded, sums and dbias are not. A
// picture's y and dx have the same bits in any batch.
//
// Throws Error(kShape) when sizes do not fit, or the kernel is larger than the padded picture;
// Error(kValue) if x is not on a tape, stride < 1 or padding < 0; Error(kDtype) for f64 in bf16.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const Conv2dOptions& options = {});

}  // namespace engine
