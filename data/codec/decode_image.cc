// The only file that knows stb_image.
#include "data/codec/decode_image.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "data/codec/decode_jpeg.h"
#include "engine/core/error.h"

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>
#pragma GCC diagnostic pop

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;
using Bytes = std::span<const uint8_t>;

constexpr std::array<uint8_t, 8> kPng = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr std::array<uint8_t, 3> kJpeg = {0xff, 0xd8, 0xff};
constexpr std::array<uint8_t, 2> kJpegEnd = {0xff, 0xd9};
constexpr std::array<uint8_t, 4> kPngEnd = {'I', 'E', 'N', 'D'};

template <size_t N>
bool begins_with(Bytes bytes, const std::array<uint8_t, N>& start) {
  return bytes.size() >= N && std::equal(start.begin(), start.end(), bytes.begin());
}

bool contains(Bytes bytes, Bytes marker) {
  if (bytes.size() >= marker.size() && std::ranges::equal(bytes.last(marker.size()), marker)) {
    return true;  // where it mostly is
  }
  return std::search(bytes.begin(), bytes.end(), marker.begin(), marker.end()) != bytes.end();
}

// What follows the header of the first scan: segments before it may hold a whole thumbnail.
Bytes after_first_scan(Bytes jpeg) {
  for (size_t at = 2; at + 4 <= jpeg.size() && jpeg[at] == 0xff;) {
    const size_t length = size_t{jpeg[at + 2]} * 256 + jpeg[at + 3];
    if (at + 2 + length > jpeg.size()) break;
    if (jpeg[at + 1] == 0xda) return jpeg.subspan(at + 2 + length);
    at += 2 + length;
  }
  return {};
}

// stb_image fills what a cut file lacks; a whole one has its end marker, maybe with other bytes
// behind it.
bool is_whole(Bytes bytes) {
  return begins_with(bytes, kPng) ? contains(bytes, kPngEnd)
                                  : contains(after_first_scan(bytes), kJpegEnd);
}

const char* reason() {
  const char* text = stbi_failure_reason();
  return text == nullptr ? "unknown" : text;
}

}  // namespace

ImageU8 read_image_header(Bytes bytes, const std::string& path) {
  check(!bytes.empty(), ErrorKind::kFormat, path, ": the file is empty");
  check(begins_with(bytes, kPng) || begins_with(bytes, kJpeg), ErrorKind::kFormat, path,
        ": neither a JPEG nor a PNG file, whatever its name");
  const auto check_pixels = [&path](int64_t w, int64_t h) {
    check(w <= kMostPixels && h <= kMostPixels && w * h <= kMostPixels, ErrorKind::kFormat, path,
          ": ", w, " x ", h, " pixels, more than the ", kMostPixels, " that are decoded");
  };
  // stb_image only says that it does not know a PNG file of such a size.
  if (begins_with(bytes, kPng) && bytes.size() >= 24) {
    const auto number = [&bytes](size_t at) {
      return int64_t{bytes[at]} << 24 | int64_t{bytes[at + 1]} << 16 | int64_t{bytes[at + 2]} << 8 |
             int64_t{bytes[at + 3]};
    };
    check_pixels(number(16), number(20));
  }
  int width = 0, height = 0, channels = 0;
  const int known = stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width,
                                          &height, &channels);
  check(known == 1, ErrorKind::kFormat, path, ": its header cannot be read: ", reason());
  check_pixels(width, height);
  ImageU8 size;
  size.height = height;
  size.width = width;
  size.channels = channels;
  return size;
}

void decode_image(Bytes bytes, const std::string& path, ImageU8& out, JpegDialect jpeg) {
  read_image_header(bytes, path);
  check(is_whole(bytes), ErrorKind::kFormat, path, ": the file is cut short, it has no end marker");
  if (begins_with(bytes, kJpeg) && decode_jpeg(bytes, path, jpeg, out)) return;
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height,
                            &channels, 3),
      &stbi_image_free);
  check(pixels != nullptr, ErrorKind::kFormat, path, ": cannot be decoded: ", reason());
  out.reshape(height, width, 3);
  std::copy_n(pixels.get(), out.pixels.size(), out.pixels.begin());
}

void read_bytes(const std::string& path, std::vector<uint8_t>& bytes) {
  std::error_code ignored;
  check(!std::filesystem::exists(path, ignored) || std::filesystem::is_regular_file(path, ignored),
        ErrorKind::kFormat, path, ": is no file that can be read");
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  check(file.good(), ErrorKind::kIo, path, ": cannot be read: ", std::strerror(errno));
  const auto size = static_cast<int64_t>(file.tellg());
  check(size >= 0 && size < int64_t{1} << 31, ErrorKind::kFormat, path, ": a picture of ", size,
        " bytes");
  bytes.resize(static_cast<size_t>(size));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), size);
  check(file.gcount() == size, ErrorKind::kIo, path, ": cannot be read to its end");
}

}  // namespace data
