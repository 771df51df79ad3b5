#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

// JPEG and PNG files in memory, written by stb_image_write.
namespace data::test {

// (height, width, channels) with all values different enough to tell them apart.
inline std::vector<uint8_t> pixels_of(int height, int width, int channels) {
  std::vector<uint8_t> pixels;
  for (int i = 0; i < height * width * channels; ++i) {
    pixels.push_back(static_cast<uint8_t>(i * 37 + i / 11));
  }
  return pixels;
}

std::vector<uint8_t> png_of(const std::vector<uint8_t>& pixels, int height, int width,
                            int channels);
std::vector<uint8_t> jpeg_of(const std::vector<uint8_t>& pixels, int height, int width,
                             int channels);
inline std::vector<uint8_t> png_of(int height, int width, int channels) {
  return png_of(pixels_of(height, width, channels), height, width, channels);
}

}  // namespace data::test
