#pragma once

#include <cstddef>
#include <string_view>

namespace data {

// How a packed file begins; three u64 follow, then the pictures.
inline constexpr std::string_view kPackHeading = "robustmoe pack 1";
inline constexpr size_t kPackHead = kPackHeading.size() + 24;
// How a picture begins that is no JPEG or PNG file but its pixels, (height, width, 3) bytes.
inline constexpr std::string_view kPixelsHeading = "pixels: ";

}  // namespace data
