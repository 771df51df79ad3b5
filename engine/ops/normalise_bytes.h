#pragma once

#include "engine/core/tensor.h"

namespace engine {

// Images as bytes, all tensors on one device.
struct ByteImages {
  Tensor bytes;     // (B, C, H, W) u8
  Tensor mirrored;  // (B)          u8, not 0: an image is to be mirrored left to right
  Tensor table;     // (C, 256)     f32, what a byte means
  Tensor erased;    // (B, 4)       i32, top, left, height and width of a box; or undefined
};

// y[b,c,h,w] = 0 in the erased box of b, else table[c, bytes[b,c,h,m]] with m = W - 1 - w where b
// is mirrored and w elsewhere. The box is one of y; what of it lies outside is nothing.
//
//   y        (B, C, H, W)  f32, where the bytes are; memory of the caller's, so that it may be the
//                          same at every step
//
// Values are copied, so the bits are those of the table on every device. Not on a tape.
// Memory-bound: a byte is read for every float that is written. Error(kShape, kDtype) where a
// tensor is another one than above, Error(kDevice) for two devices.
void normalise_bytes(const ByteImages& in, const Tensor& y);

}  // namespace engine
