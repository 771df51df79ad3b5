#pragma once

#include "engine/core/tape.h"

namespace nn {

// Mean entropy of rows of probabilities, in nats: mean_n -sum_e p_ne log(p_ne + 1e-7) (spec 4.6).
// As a penalty on a router's outputs it makes each choice sharper without any pairing: a control
// for PRC.
//
//   p        (N, E)  f32 or f64
//   returns  (1)
//
// Gradient: -(log(p + 1e-7) + p / (p + 1e-7)) / N. Error(kShape, kValue).
engine::Tensor mean_entropy(const engine::Tensor& p);

}  // namespace nn
