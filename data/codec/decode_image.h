#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/dataset.h"

namespace data {

// A picture with more pixels than this is refused before memory is taken for it.
inline constexpr int64_t kMostPixels = int64_t{1} << 27;

// Height, width and channels that the header of a JPEG or PNG file names; `pixels` stays empty.
// Error(kFormat) beginning with `path`: an empty file, one that is neither, a header that cannot be
// read, or more than kMostPixels.
ImageU8 read_image_header(std::span<const uint8_t> bytes, const std::string& path);

// A JPEG or PNG file as three channels of 8 bits: grey is repeated, a palette looked up,
// transparency dropped, of 16 bits the upper 8 are kept, CMYK becomes RGB (decode_jpeg.h); a
// rotation noted in EXIF is not applied, as in TensorFlow. What kind a
// file is says its content, not its name. Error(kFormat) as above, and for a file that is cut short
// or damaged.
void decode_image(std::span<const uint8_t> bytes, const std::string& path, ImageU8& out,
                  JpegDialect jpeg = JpegDialect::kAccurate);

// The whole of a file. Error(kIo), Error(kFormat) for a folder, a pipe and the like.
void read_bytes(const std::string& path, std::vector<uint8_t>& bytes);

}  // namespace data
