#pragma once

#include "engine/core/tape.h"

namespace engine {

// A layer's running statistics, (C) each: kept and saved, never optimised.
struct RunningStatistics {
  Tensor mean, var;
};

// What follows the normalisation in the same pass over memory.
struct NormTail {
  const Tensor* residual = nullptr;  // (..., C), added
  bool relu = false;                 // max(., 0), after the residual; NaN stays NaN
};

// Batch normalisation over all axes but the last, with the statistics of this batch:
//   y[r,c] = (x[r,c] - mean_c) * rstd_c * scale[c] + bias[c] (+ residual[r,c]) (then max(., 0)),
//   rstd_c = 1/sqrt(var_c + eps), var_c the population variance of the R rows
//
//   x            (..., C)  f32 or f64
//   scale, bias  (C)
//   running      null: left alone (an attack, a replayed segment). Else
//                mean <- (1 - momentum) mean + momentum mean_c,
//                var  <- (1 - momentum) var + momentum var_c R / (R - 1)
//   returns      (..., C)
//
// Variances are gathered around means, block by block and merged (Chan et al. 1983), so a large
// mean costs no digits. Gradient, with g = dy where y > 0 (or dy) and n = (x - mean) * rstd:
//   dx = scale * rstd * (g - mean_r(g) - n * mean_r(g n)),  dscale = sum_r g n,
//   dbias = sum_r g,  dresidual = g.
// At y = 0 the gradient of max(., 0) is 0. Saves x, mean, rstd and, with a residual and relu, y.
// Sums over rows are cut into a fixed number of chunks, so bits do not depend on threads.
//
// Throws Error(kShape) when sizes do not fit, Error(kValue) if x is not on a tape, eps is not
// positive, momentum is not in [0, 1] or there are fewer than two rows.
Tensor batch_norm(const Tensor& x, const Tensor& scale, const Tensor& bias,
                  const RunningStatistics* running, double momentum = 0.1, double eps = 1e-5,
                  const NormTail& tail = {});

// The same with given statistics, which are constants: dx = scale * rstd * g. A row's bits do not
// depend on its neighbours. One row is enough.
Tensor batch_norm_fixed(const Tensor& x, const Tensor& scale, const Tensor& bias,
                        const RunningStatistics& statistics, double eps = 1e-5,
                        const NormTail& tail = {});

}  // namespace engine
