#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/core/rng.h"

namespace data {

// 64 bits over bytes: eight at a time through a bijection that mixes all bits, so that a change of
// one word always changes the result. Not meant against forgery.
inline uint64_t hash_bytes(const uint8_t* bytes, size_t count, uint64_t seed = 0) {
  uint64_t hash = engine::mix64(seed ^ count);
  for (size_t at = 0; at < count; at += 8) {
    uint64_t word = 0;
    for (size_t i = at; i < std::min(count, at + 8); ++i) word = word << 8 | bytes[i];
    hash = engine::mix64(hash ^ engine::mix64(word + at));
  }
  return hash;
}

inline uint64_t hash_text(std::string_view text, uint64_t seed = 0) {
  return hash_bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size(), seed);
}

// 16 hexadecimal digits.
inline std::string hex(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = 0; i < 16; ++i) text[15 - i] = "0123456789abcdef"[value >> (4 * i) & 15];
  return text;
}

}  // namespace data
