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
double learning_rate(const Config::Schedule& schedule, int64_t step, int64_t steps);

}  // namespace train
