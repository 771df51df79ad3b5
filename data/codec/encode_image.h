#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace data {

// The bytes of a PNG file; 1 to 4 channels. Error(kValue) for an empty picture.
std::vector<uint8_t> encode_png(const ImageU8& image);
// The bytes of a JPEG file of quality 1 to 100; 1 or 3 channels. Up to 90 colours have half the
// resolution. Error(kValue) for another picture or quality.
std::vector<uint8_t> encode_jpeg(const ImageU8& image, int quality);

}  // namespace data
