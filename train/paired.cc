#include "train/paired.h"

#include <cmath>
#include <limits>

namespace train {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The continued fraction of the incomplete beta function, by Lentz's method.
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto safe = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / safe(1 - (a + b) * x / (a + 1)), h = d;
  for (int m = 1; m < 1000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / safe(1 + even * d);
    c = safe(1 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / safe(1 + odd * d);
    c = safe(1 + odd / c);
    h *= d * c;
    if (std::abs(d * c - 1) < 1e-15) break;
  }
  return h;
}

// The regularised incomplete beta function I_x(a, b).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  // The fraction converges fast on this side of the mean only.
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

MeanError mean_error(std::span<const double> values) {
  MeanError out{static_cast<int64_t>(values.size()), 0, kNan};
  const auto n = static_cast<double>(values.size());
  for (const double x : values) out.mean += x / n;
  if (values.size() < 2) return out;
  double square = 0;
  for (const double x : values) square += (x - out.mean) * (x - out.mean);
  out.error = std::sqrt(square / (n * (n - 1)));
  return out;
}

double student_upper(double t, int64_t degrees) {
  if (std::isnan(t) || degrees < 1) return kNan;
  if (std::isinf(t)) return t > 0 ? 0 : 1;
  const auto v = static_cast<double>(degrees);
  const double tail = 0.5 * incomplete_beta(v / 2, 0.5, v / (v + t * t));
  return t >= 0 ? tail : 1 - tail;
}

PairedTest paired_test(std::span<const double> differences) {
  PairedTest out{mean_error(differences), kNan, kNan};
  if (out.difference.n < 2) return out;
  const double mean = out.difference.mean;
  out.t = mean == 0 ? 0 : mean / out.difference.error;
  out.p = student_upper(out.t, out.difference.n - 1);
  return out;
}

}  // namespace train
