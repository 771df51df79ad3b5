#pragma once

#include <cstdint>
#include <span>

namespace train {

// Mean of n values and its standard error, sqrt(sum (x - mean)^2 / (n (n - 1))); NaN for n < 2.
struct MeanError {
  int64_t n = 0;
  double mean = 0, error = 0;
};
MeanError mean_error(std::span<const double> values);

// One-sided paired t-test that the differences are above 0: t = mean / error, and p = P(T >= t) of
// Student's distribution with n - 1 degrees of freedom. For n < 2 both are NaN; without any spread
// t is infinite, or 0 for a mean of 0.
struct PairedTest {
  MeanError difference;
  double t = 0, p = 0;
};
PairedTest paired_test(std::span<const double> differences);

// P(T >= t) of Student's distribution, by the continued fraction of the incomplete beta function.
double student_upper(double t, int64_t degrees);

}  // namespace train
