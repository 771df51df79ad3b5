#pragma once

#include "engine/core/tape.h"

namespace nn {

// GShard's balance loss, per group of `group_tokens` tokens, then the mean over groups (spec 2.5):
//   E^2 mean_e( mean_t [chosen[t,0] = e] * mean_t gates[t,e] )
//
//   gates    (N, E)  f32 or f64, what experts were chosen by
//   chosen   (N, K)  i32, the first of a row being the largest gate
//   returns  (1); 1 where both factors are uniform
//
// Gradient to `gates`; the first factor, a count, has none. Error(kValue) if group_tokens does
// not divide N.
engine::Tensor gshard_loss(const engine::Tensor& gates, const engine::Tensor& chosen,
                           int64_t group_tokens);

}  // namespace nn
