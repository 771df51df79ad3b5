// The only file that knows stb_image_write.
#include "data/codec/encode_image.h"

#include "engine/core/error.h"

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace data {
namespace {

void append(void* to, void* data, int size) {
  auto& bytes = *static_cast<std::vector<uint8_t>*>(to);
  const auto* begin = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), begin, begin + size);
}

}  // namespace

std::vector<uint8_t> encode_png(const ImageU8& image) {
  engine::check(image.height > 0 && image.width > 0 && image.channels >= 1 && image.channels <= 4,
                engine::ErrorKind::kValue, "PNG: a picture of ", image.height, " x ", image.width,
                " x ", image.channels);
  std::vector<uint8_t> bytes;
  const int written =
      stbi_write_png_to_func(append, &bytes, static_cast<int>(image.width),
                             static_cast<int>(image.height), static_cast<int>(image.channels),
                             image.pixels.data(), static_cast<int>(image.width * image.channels));
  engine::check(written != 0, engine::ErrorKind::kInternal, "PNG: cannot be encoded");
  return bytes;
}

std::vector<uint8_t> encode_jpeg(const ImageU8& image, int quality) {
  engine::check(image.height > 0 && image.width > 0 && (image.channels == 1 || image.channels == 3),
                engine::ErrorKind::kValue, "JPEG: a picture of ", image.height, " x ", image.width,
                " x ", image.channels);
  engine::check(quality >= 1 && quality <= 100, engine::ErrorKind::kValue, "JPEG: quality ",
                quality, ", expected 1 to 100");
  std::vector<uint8_t> bytes;
  const int written = stbi_write_jpg_to_func(
      append, &bytes, static_cast<int>(image.width), static_cast<int>(image.height),
      static_cast<int>(image.channels), image.pixels.data(), quality);
  engine::check(written != 0, engine::ErrorKind::kInternal, "JPEG: cannot be encoded");
  return bytes;
}

}  // namespace data
