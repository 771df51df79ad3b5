#include "train/report/base64.h"

#include <bit>

namespace train {

static_assert(std::endian::native == std::endian::little);

std::string base64(std::span<const uint8_t> bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = bytes.size() - i;
    const uint32_t group = uint32_t{bytes[i]} << 16 |
                           (count > 1 ? uint32_t{bytes[i + 1]} << 8 : 0u) |
                           (count > 2 ? uint32_t{bytes[i + 2]} : 0u);
    text += kDigits[group >> 18];
    text += kDigits[group >> 12 & 63];
    text += count > 1 ? kDigits[group >> 6 & 63] : '=';
    text += count > 2 ? kDigits[group & 63] : '=';
  }
  return text;
}

}  // namespace train
