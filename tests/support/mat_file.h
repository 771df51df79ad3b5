#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace data::test {

using MatBytes = std::vector<uint8_t>;

inline void append(MatBytes& to, const MatBytes& more) {
  to.insert(to.end(), more.begin(), more.end());
}

inline MatBytes u32(uint32_t value) {
  return {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
          static_cast<uint8_t>(value >> 16), static_cast<uint8_t>(value >> 24)};
}

inline MatBytes element(uint32_t type, const MatBytes& data) {
  MatBytes bytes = u32(type);
  append(bytes, u32(static_cast<uint32_t>(data.size())));
  append(bytes, data);
  while (bytes.size() % 8 != 0) bytes.push_back(0);
  return bytes;
}

// A MATLAB file of rows of bytes.
inline MatBytes mat(const std::vector<std::pair<std::string, MatBytes>>& variables) {
  MatBytes file(128, ' ');
  file[124] = 0, file[125] = 1, file[126] = 'I', file[127] = 'M';
  for (const auto& [name, values] : variables) {
    MatBytes sizes = u32(1), matrix = element(6, {9, 0, 0, 0, 0, 0, 0, 0});
    append(sizes, u32(static_cast<uint32_t>(values.size())));
    append(matrix, element(5, sizes));
    append(matrix, element(1, {name.begin(), name.end()}));
    append(matrix, element(2, values));
    append(file, element(14, matrix));
  }
  return file;
}

}  // namespace data::test
