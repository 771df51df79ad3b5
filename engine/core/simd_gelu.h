#pragma once

#include <cmath>

#include "engine/core/simd.h"
#include "engine/ops/gelu_math.h"

namespace engine::simd {

// sigmoid(v) on registers. exp saturates at large |v|; the quotient is right at both ends.
template <class T>
Packet<T> sigmoid(const Packet<T>& v) {
  const Packet<T> one = set(T(1));
  return div(one, add(one, exp(sub(set(T(0)), v))));
}

template <class T, class F>
Packet<T> each_lane(const Packet<T>& x, F&& f) {
  T lanes[kLanes<T>];
  store(lanes, x);
  for (T& lane : lanes) lane = f(lane);
  return load(lanes);
}

template <class T>
Packet<T> gelu(const Packet<T>& x, GeluForm form) {
  if (form == GeluForm::kErf) {
    return each_lane<T>(
        x, [](T v) { return v * T(0.5) * (T(1) + std::erf(v * T(0.70710678118654752))); });
  }
  const Packet<T> x2 = mul(x, x);
  const Packet<T> inner =
      fma(mul(x, x2), set(T(kTwoSqrt2OverPi * kGeluCubic)), mul(x, set(T(kTwoSqrt2OverPi))));
  return mul(x, sigmoid<T>(inner));
}

// d gelu(x) / dx.
template <class T>
Packet<T> gelu_slope(const Packet<T>& x, GeluForm form) {
  if (form == GeluForm::kErf) {
    return each_lane<T>(x, [](T v) {
      const T cdf = T(0.5) * (T(1) + std::erf(v * T(0.70710678118654752)));
      return cdf + v * T(0.39894228040143268) * std::exp(T(-0.5) * v * v);
    });
  }
  const Packet<T> x2 = mul(x, x), c = set(T(kTwoSqrt2OverPi));
  const Packet<T> inner = fma(mul(x, x2), set(T(kTwoSqrt2OverPi * kGeluCubic)), mul(x, c));
  const Packet<T> s = sigmoid<T>(inner);
  // d inner/dx = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2);  slope = s + x s (1-s) inner'
  const Packet<T> dinner = fma(x2, set(T(3 * kTwoSqrt2OverPi * kGeluCubic)), c);
  return fma(mul(x, dinner), sub(s, mul(s, s)), s);
}

}  // namespace engine::simd
