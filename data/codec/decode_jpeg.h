#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/dataset.h"

namespace data {

// "libjpeg-turbo", or "stb_image" where the build found none: who decodes JPEG files. The two
// differ by single grey levels, in 4:2:2 pictures here and there by more (64 was seen).
const char* jpeg_decoder();

// A JPEG file as three channels, by libjpeg with its smooth upsampling; grey is repeated, of CMYK
// each colour is multiplied by K / 255.
//   kAccurate  the accurate integer transform, CMYK rounded: Pillow's pixels
//   kFast      the fast one, CMYK truncated: TensorFlow's by default, and so V-MoE's
// They differ by single grey levels, up to about 15. Error(kFormat), beginning with `path`, for
// damaged data that libjpeg would only warn of. In a build without libjpeg false and nothing done
// for kAccurate, Error(kValue) for kFast.
bool decode_jpeg(std::span<const uint8_t> bytes, const std::string& path, JpegDialect dialect,
                 ImageU8& out);

}  // namespace data
