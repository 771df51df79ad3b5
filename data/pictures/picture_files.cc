#include "data/pictures/picture_files.h"

#include <utility>

#include "data/codec/decode_image.h"
#include "engine/core/error.h"

namespace data {
namespace {

// In place: pixel p's three values become one at p.
void to_luma(ImageU8& image) {
  const int64_t pixels = image.height * image.width;
  for (int64_t p = 0; p < pixels; ++p) {
    const uint8_t* rgb = image.pixels.data() + 3 * p;
    image.pixels[static_cast<size_t>(p)] =
        static_cast<uint8_t>((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000);
  }
  image.reshape(image.height, image.width, 1);
}

}  // namespace

PictureFiles::PictureFiles(std::vector<std::string> paths, int64_t channels, JpegDialect jpeg)
    : paths_(std::move(paths)), info_{"files", channels, 0, 0, 0, {}}, jpeg_(jpeg) {
  engine::check(channels == 1 || channels == 3, engine::ErrorKind::kValue,
                "picture files have 1 or 3 channels, the model wants ", channels);
}

void PictureFiles::read(int64_t i, ImageU8& out) const {
  engine::check(i >= 0 && i < size(), engine::ErrorKind::kValue, "picture ", i, " of ", size());
  const std::string& path = paths_[static_cast<size_t>(i)];
  std::vector<uint8_t> bytes;
  read_bytes(path, bytes);
  decode_image(bytes, path, out, jpeg_);
  if (info_.channels == 1) to_luma(out);
}

}  // namespace data
