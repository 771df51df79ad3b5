#pragma once

#include "engine/core/tape.h"

namespace nn {

// Distances of two rows of probabilities a, b (spec 4.6). kL2: |a - b|. kJsd: the Jensen-Shannon
// divergence 1/2 KL(a || m) + 1/2 KL(b || m), m = (a + b) / 2, in nats.
enum class Distance : uint8_t { kL2, kJsd };

// The mean distance over `count` pairs of rows of x.
//
//   x            (N, E)  f32 or f64
//   left, right  i32, the rows of pair n at n < count; a row may be in several pairs
//   number       undefined; or (1) i32 on a GPU, where the rows are: how many of the `count` there
//                are, rows of the others being -1
//   returns      (1); 0 if there are no pairs
//
// Gradient to both rows of every pair. kL2: (a - b) / |a - b|, 0 where they are equal. kJsd:
// 1/2 log(a / m) for a, likewise b; where an entry of a is 0 that of its gradient is 0.
// Error(kShape, kValue).
engine::Tensor pair_distance(const engine::Tensor& x, const engine::Tensor& left,
                             const engine::Tensor& right, int64_t count, Distance kind,
                             const engine::Tensor& number = {});

}  // namespace nn
