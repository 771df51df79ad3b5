#include "tests/support/picture_files.h"

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace data::test {
namespace {

void append(void* to, void* data, int size) {
  auto& bytes = *static_cast<std::vector<uint8_t>*>(to);
  const auto* begin = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), begin, begin + size);
}

}  // namespace

std::vector<uint8_t> png_of(const std::vector<uint8_t>& pixels, int height, int width,
                            int channels) {
  std::vector<uint8_t> bytes;
  stbi_write_png_to_func(append, &bytes, width, height, channels, pixels.data(), width * channels);
  return bytes;
}

std::vector<uint8_t> jpeg_of(const std::vector<uint8_t>& pixels, int height, int width,
                             int channels) {
  std::vector<uint8_t> bytes;
  stbi_write_jpg_to_func(append, &bytes, width, height, channels, pixels.data(), 95);
  return bytes;
}

}  // namespace data::test
