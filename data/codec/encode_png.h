#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace data {

// The bytes of a PNG file; 1 to 4 channels. Error(kValue) for an empty picture.
std::vector<uint8_t> encode_png(const ImageU8& image);

}  // namespace data
