#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace train {

// RFC 4648, with padding.
std::string base64(std::span<const uint8_t> bytes);

// The bytes of numbers as they lie in memory, which is little-endian on all machines we build for.
template <class T>
std::string base64_of(const std::vector<T>& numbers) {
  return base64({reinterpret_cast<const uint8_t*>(numbers.data()), numbers.size() * sizeof(T)});
}

}  // namespace train
