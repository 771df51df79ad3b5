#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/core/error.h"

namespace train {
namespace {

constexpr double kWarmFrom = 0.01;  // the published start_factor

// PyTorch's LinearLR, then CosineAnnealingLR, each from the rate that it finds: the operations and
// their order are those of the published code, so that rates agree to the last digits.
double chained_cosine(const Config::Schedule& s, int64_t epoch, int64_t epochs) {
  const int64_t period = epochs - s.warmup_epochs;
  const auto cosine = [period](int64_t e) {
    return std::cos(std::numbers::pi * static_cast<double>(e) / static_cast<double>(period));
  };
  double rate = s.peak * kWarmFrom;
  for (int64_t e = 1; e <= epoch; ++e) {
    if (e <= s.warmup_epochs) {
      const double rise = 1 - kWarmFrom;
      rate *= 1 + rise / (static_cast<double>(s.warmup_epochs) * kWarmFrom +
                          static_cast<double>(e - 1) * rise);
    }
    // At an odd multiple of the period the cosine before was -1: there is no ratio to take.
    const bool from_floor = (e - 1 - period) % (2 * period) == 0;
    rate = from_floor ? rate + (s.peak - s.end) * (1 - cosine(1)) / 2
                      : (1 + cosine(e)) / (1 + cosine(e - 1)) * (rate - s.end) + s.end;
  }
  return rate;
}

double rate_of_epoch(const Config::Schedule& s, int64_t epoch, int64_t epochs) {
  if (s.kind == "step") {
    const int64_t falls = epoch / s.step_epochs;
    return s.peak * std::pow(0.1, static_cast<double>(falls));
  }
  if (s.kind == "rsm-cosine") return chained_cosine(s, epoch, epochs);
  if (epoch == 0) return s.peak * kWarmFrom;
  return s.peak * std::pow(1 - static_cast<double>(epoch) / static_cast<double>(epochs), s.power);
}

}  // namespace

bool per_epoch(const Config::Schedule& schedule) {
  return schedule.kind == "step" || schedule.kind == "rsm-polynomial" ||
         schedule.kind == "rsm-cosine";
}

double learning_rate(const Config::Schedule& schedule, int64_t step, int64_t steps,
                     int64_t epochs) {
  const int64_t warm = schedule.warmup_steps;
  if (step < warm) return schedule.peak * static_cast<double>(step) / static_cast<double>(warm);
  if (schedule.kind == "constant") return schedule.peak;
  if (per_epoch(schedule)) {
    engine::check(epochs > 0, engine::ErrorKind::kValue, "schedule.kind = \"", schedule.kind,
                  "\" changes the rate once an epoch, but train.epochs is ", epochs,
                  ": set it to 1 or more");
    // In f64, where no product overflows; exact up to 2^53.
    const double epoch = std::floor(static_cast<double>(step) * static_cast<double>(epochs) /
                                    static_cast<double>(std::max<int64_t>(1, steps)));
    return rate_of_epoch(
        schedule, static_cast<int64_t>(std::min(epoch, static_cast<double>(epochs - 1))), epochs);
  }
  const double span = static_cast<double>(std::max<int64_t>(1, steps - warm));
  const double t = std::min(1.0, static_cast<double>(step - warm) / span);
  const double range = schedule.peak - schedule.end;
  if (schedule.kind == "linear") return schedule.peak - range * t;
  if (schedule.kind == "polynomial") return schedule.end + range * std::pow(1 - t, schedule.power);
  return schedule.end + range * 0.5 * (1 + std::cos(std::numbers::pi * t));
}

}  // namespace train
