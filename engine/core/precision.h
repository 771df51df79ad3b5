#pragma once

#include <bit>
#include <cstdint>

namespace engine {

// What the operands of a product are rounded to before they are multiplied; sums are f32. kTf32, 10
// bits of mantissa and the range of f32, is what a GPU's tensor cores make of f32: CUDA only.
enum class Precision : uint8_t { kF32, kBf16, kTf32 };

// bfloat16: the upper half of an f32. A storage type: arithmetic happens in f32.
struct bf16 {
  uint16_t bits = 0;
};

// Round to nearest, ties to even; NaN stays NaN (quiet).
constexpr bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
constexpr float to_float(bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

// to_float(to_bf16(x)) of n numbers, in place.
inline void round_to_bf16(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t u = std::bit_cast<uint32_t>(x[i]);
    const uint32_t rounded =
        (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : u + 0x7fffu + ((u >> 16) & 1u);
    x[i] = std::bit_cast<float>(rounded & 0xffff0000u);
  }
}

}  // namespace engine
