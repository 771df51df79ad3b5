#pragma once

#include <cstdint>

#include "train/config.h"

namespace train {

// Learning rate of update `step` (0-based) of `steps` (spec 3.1, 3.2): linear from 0 to peak in
// warmup_steps, so that the first update's rate is 0 when there is a warm-up; then, with
// t = (step - warmup) / (steps - warmup) in [0, 1],
//   constant    peak
//   linear      peak + (end - peak) t
//   cosine      end + (peak - end) (1 + cos(pi t)) / 2
//   polynomial  end + (peak - end) (1 - t)^power
//
// or, the same for all steps of epoch e = floor(step epochs / steps), at most epochs - 1:
//   step            peak / 10^floor(e / step_epochs), after warmup_steps as above
//   rsm-polynomial  peak / 100 where e = 0, else peak (1 - e / epochs)^power
//   rsm-cosine      r_e with r_0 = peak / 100, W = warmup_epochs, T = epochs - W and
//                     u_e = r_{e-1} * (0.01 + 0.99 e / W) / (0.01 + 0.99 (e - 1) / W) up to e = W,
//                           else r_{e-1}
//                     r_e = end + (u_e - end) (1 + cos(pi e / T)) / (1 + cos(pi (e - 1) / T)),
//                           but u_e + (peak - end) (1 - cos(pi / T)) / 2 where (e - 1) / T is odd
//
// The last two are those of Robust Experts as its code has them (spec robust-sparse-moes 3): a
// linear warm-up is chained with the main schedule from the first epoch on, not put before it. So
// the polynomial runs its first epoch at 1 % of the rate although it has no warm-up (with one,
// later epochs would be no others); the cosine, whose period ends W epochs early, rises from its
// floor in the last ones; and with W = 0 nothing ever brings it up from 1 %.
//
// Error(kValue) for the last three where epochs is 0.
double learning_rate(const Config::Schedule& schedule, int64_t step, int64_t steps,
                     int64_t epochs = 0);

// Does the rate change once an epoch?
bool per_epoch(const Config::Schedule& schedule);

}  // namespace train
