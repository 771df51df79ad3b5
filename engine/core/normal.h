#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

// The arithmetic of normal_from_uniform() (rng.h), the same bits on every device: Math::fma and
// Math::sqrt round once, as IEEE has it, and nothing else here can be contracted.
namespace engine {

// Horner's rule, one rounding a step: fma leaves the compiler nothing to contract.
template <class Math, size_t n>
constexpr double horner(const double (&c)[n], double x) {
  double y = c[n - 1];
  for (size_t i = n - 1; i-- > 0;) y = Math::fma(y, x, c[i]);
  return y;
}

// Natural logarithm of 0 < x < 1 without libm: x = m 2^e, sqrt(1/2) <= m < sqrt(2),
// log m = 2 atanh((m-1)/(m+1)), |t| < 0.172, so 11 odd terms leave 1e-18.
template <class Math>
constexpr double log_of(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1022;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffffull) | 0x3fe0000000000000ull);
  if (m < 0.70710678118654752) {
    m *= 2;
    exponent -= 1;
  }
  const double t = (m - 1) / (m + 1), u = t * t;
  constexpr double kOdd[] = {1,        1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9, 1.0 / 11,
                             1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21};
  return Math::fma(static_cast<double>(exponent), 0.69314718055994530942,
                   2 * t * horner<Math>(kOdd, u));
}

// normal_from_uniform() of rng.h.
template <class Math>
constexpr double normal_of(double p) {
  const double q = p - 0.5;
  if (q >= -0.425 && q <= 0.425) {
    constexpr double kA[] = {3.3871328727963666080e0, 1.3314166789178437745e2,
                             1.9715909503065514427e3, 1.3731693765509461125e4,
                             4.5921953931549871457e4, 6.7265770927008700853e4,
                             3.3430575583588128105e4, 2.5090809287301226727e3};
    constexpr double kB[] = {1.0,
                             4.2313330701600911252e1,
                             6.8718700749205790830e2,
                             5.3941960214247511077e3,
                             2.1213794301586595867e4,
                             3.9307895800092710610e4,
                             2.8729085735721942674e4,
                             5.2264952788528545610e3};
    const double r = Math::fma(-q, q, 0.180625);
    return q * horner<Math>(kA, r) / horner<Math>(kB, r);
  }
  double r = Math::sqrt(-log_of<Math>(q < 0 ? p : 1 - p));
  double x = 0;
  if (r <= 5) {
    constexpr double kC[] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                             5.76949722146069140550e0,  3.64784832476320460504e0,
                             1.27045825245236838258e0,  2.41780725177450611770e-1,
                             2.27238449892691845833e-2, 7.74545014278341407640e-4};
    constexpr double kD[] = {1.0,
                             2.05319162663775882187e0,
                             1.67638483018380384940e0,
                             6.89767334985100004550e-1,
                             1.48103976427480074590e-1,
                             1.51986665636164571966e-2,
                             5.47593808499534494600e-4,
                             1.05075007164441684324e-9};
    r -= 1.6;
    x = horner<Math>(kC, r) / horner<Math>(kD, r);
  } else {
    constexpr double kE[] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                             1.78482653991729133580e0,  2.96560571828504891230e-1,
                             2.65321895265761230930e-2, 1.24266094738807843860e-3,
                             2.71155556874348757815e-5, 2.01033439929228813265e-7};
    constexpr double kF[] = {1.0,
                             5.99832206555887937690e-1,
                             1.36929880922735805310e-1,
                             1.48753612908506148525e-2,
                             7.86869131145613259100e-4,
                             1.84631831751005468180e-5,
                             1.42151175831644588870e-7,
                             2.04426310338993978564e-15};
    r -= 5;
    x = horner<Math>(kE, r) / horner<Math>(kF, r);
  }
  return q < 0 ? -x : x;
}

}  // namespace engine
