#pragma once

#include <cstdint>

namespace engine {

// gelu(x) = x Phi(x). kTanh is the approximation x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3),
// equal to 0.5 x (1 + tanh u) (flax default); kErf is exact.
enum class GeluForm : uint8_t { kTanh, kErf };

inline constexpr double kGeluCubic = 0.044715;
inline constexpr double kTwoSqrt2OverPi = 1.5957691216057308;  // 2 sqrt(2/pi)

}  // namespace engine
