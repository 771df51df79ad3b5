#pragma once

#include "engine/core/tape.h"

namespace engine {

// Puts pixels of each picture at new places, the same for all pictures: y[b,q] = x[b, index[q]],
// zeros where index[q] is -1.
//
//   x        (B, P, C)  f32 or f64
//   index    (Q)        i32, -1 or in [0, P); may name a pixel often, or not at all. Must live as
//                       long as the tape, and lie where x lies
//   returns  (B, Q, C)
//
// Gradient: dx[b,p] = sum over q with index[q] = p of dy[b,q], in the order of q. Memory-bound.
// Throws Error(kShape) when sizes do not fit, Error(kValue) for a place outside the picture
// (on the CPU only).
Tensor gather_pixels(const Tensor& x, const Tensor& index);

}  // namespace engine
