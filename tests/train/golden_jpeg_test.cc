#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "data/codec/decode_image.h"
#include "data/codec/decode_jpeg.h"
#include "tests/train/golden_file.h"
#include "tests/train/temp_folder.h"
#include "train/safetensors.h"

// JPEG files as Pillow and TensorFlow decode them (tests/reference/golden_jpeg.py).
using data::ImageU8;
using data::JpegDialect;
using train::SafetensorsFile;

namespace {

std::vector<uint8_t> bytes_of(const SafetensorsFile& file, const std::string& name) {
  const auto* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, name);
  std::vector<uint8_t> bytes(static_cast<size_t>(entry->shape.numel()));
  file.read(name, engine::test::view(bytes, entry->shape));
  return bytes;
}

int largest_difference(const ImageU8& a, const ImageU8& b) {
  REQUIRE(a.pixels.size() == b.pixels.size());
  int largest = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    largest = std::max(largest, std::abs(int{a.pixels[i]} - int{b.pixels[i]}));
  }
  return largest;
}

}  // namespace

TEST_CASE("golden jpeg: accurate as Pillow, fast as TensorFlow, to the last bit") {
  const SafetensorsFile file(ROBUSTMOE_SOURCE_DIR "/tests/golden/jpeg.safetensors");
  const bool exact = std::string_view(data::jpeg_decoder()) != "stb_image";
  for (const char* name :
       {"420", "422", "444", "420_odd", "progressive", "restart", "grey", "one", "cmyk"}) {
    CAPTURE(name);
    const std::vector<uint8_t> bytes = bytes_of(file, std::string("file.") + name);
    const ImageU8 accurate = train::test::picture(file, std::string("accurate.") + name),
                  fast = train::test::picture(file, std::string("fast.") + name);
    CHECK(largest_difference(accurate, fast) > 0);
    ImageU8 image;
    data::decode_image(bytes, name, image);
    // stb_image brings the colours of 4:2:2 pictures to full width in another way.
    const int most = exact ? 0 : std::string_view(name) == "422" ? 80 : 8;
    CHECK(largest_difference(image, accurate) <= most);
    if (exact) {
      data::decode_image(bytes, name, image, JpegDialect::kFast);
      CHECK(largest_difference(image, fast) == 0);
    } else {
      CHECK(train::test::contains(train::test::error_of(engine::ErrorKind::kValue,
                                                        [&] {
                                                          data::decode_image(bytes, name, image,
                                                                             JpegDialect::kFast);
                                                        }),
                                  "set data.jpeg=accurate"));
    }
  }
}
