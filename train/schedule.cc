#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace train {

double learning_rate(const Config::Schedule& schedule, int64_t step, int64_t steps) {
  const int64_t warm = schedule.warmup_steps;
  if (step < warm) return schedule.peak * static_cast<double>(step) / static_cast<double>(warm);
  if (schedule.kind == "constant") return schedule.peak;
  const double span = static_cast<double>(std::max<int64_t>(1, steps - warm));
  const double t = std::min(1.0, static_cast<double>(step - warm) / span);
  const double range = schedule.peak - schedule.end;
  if (schedule.kind == "linear") return schedule.peak - range * t;
  if (schedule.kind == "polynomial") return schedule.end + range * std::pow(1 - t, schedule.power);
  return schedule.end + range * 0.5 * (1 + std::cos(std::numbers::pi * t));
}

}  // namespace train
