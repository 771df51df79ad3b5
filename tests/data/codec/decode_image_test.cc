#include "data/codec/decode_image.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

using data::ImageU8;
using data::test::error_of;
using data::test::jpeg_of;
using data::test::png_of;
using engine::ErrorKind;
using Bytes = std::vector<uint8_t>;

namespace {

// A PNG whose header asks for more pixels than there are.
Bytes huge_png() {
  Bytes bytes = png_of(4, 4, 3);
  bytes[18] = bytes[22] = 12000 / 256;
  bytes[19] = bytes[23] = 12000 % 256;
  return bytes;
}

}  // namespace

TEST_CASE("decode_image: PNG to the last bit, JPEG nearly") {
  for (const int channels : {1, 2, 3, 4}) {
    CAPTURE(channels);
    const Bytes source = data::test::pixels_of(7, 5, channels);
    ImageU8 image;
    data::decode_image(png_of(7, 5, channels), "p.png", image);
    CHECK(image.height == 7);
    CHECK(image.width == 5);
    CHECK(image.channels == 3);
    bool same = true;
    for (size_t p = 0; p < 35; ++p) {
      for (size_t c = 0; c < 3; ++c) {  // grey is repeated, transparency dropped
        same &= image.pixels[p * 3 + c] == source[p * channels + (channels > 2 ? c : 0)];
      }
    }
    CHECK(same);
  }
  ImageU8 image;
  const Bytes flat(16 * 24 * 3, 200);
  data::decode_image(data::test::jpeg_of(flat, 16, 24, 3), "p.jpg", image);
  CHECK(image.height == 16);
  CHECK(image.width == 24);
  for (const uint8_t v : image.pixels) CHECK(std::abs(int{v} - 200) <= 2);
  const ImageU8 header = data::read_image_header(png_of(7, 5, 1), "p.png");
  CHECK(header.height == 7);
  CHECK(header.channels == 1);
  CHECK(header.pixels.empty());
}

TEST_CASE("decode_image: what is no picture, is cut short or far too large") {
  ImageU8 image;
  const auto message = [&](const Bytes& bytes) {
    return error_of([&] { data::decode_image(bytes, "some/p.png", image); });
  };
  CHECK(message({}).has("some/p.png: the file is empty"));
  CHECK(message({'h', 'e', 'l', 'l', 'o'}).has("some/p.png: neither a JPEG nor a PNG"));
  CHECK(message({0xff, 0xd8, 0xff}).has("some/p.png: its header cannot be read"));
  CHECK(message(huge_png()).has("more than the 134217728"));
  CHECK_FALSE(message(huge_png()).has("header cannot be read"));
  CHECK(message(huge_png()).kind == ErrorKind::kFormat);
  const Bytes png = png_of(40, 40, 3), jpeg = jpeg_of(data::test::pixels_of(40, 40, 3), 40, 40, 3);
  for (const Bytes& whole : {png, jpeg}) {
    for (const double share : {0.5, 0.9}) {
      const Bytes cut(
          whole.begin(),
          whole.begin() + static_cast<int64_t>(share * static_cast<double>(whole.size())));
      CHECK(message(cut).kind == ErrorKind::kFormat);
    }
  }
  // A thumbnail's end marker does not stand for the picture's.
  Bytes thumb = jpeg;
  const Bytes segment = {0xff, 0xe1, 0, 6, 1, 2, 0xff, 0xd9};
  thumb.insert(thumb.begin() + 2, segment.begin(), segment.end());
  data::decode_image(thumb, "t.jpg", image);
  CHECK(image.height == 40);
  thumb.resize(thumb.size() * 9 / 10);
  CHECK(message(thumb).has("cut short"));
  Bytes damaged = png;
  for (size_t i = 60; i < 90; ++i) damaged[i] ^= 0x5a;
  CHECK(message(damaged).has("cannot be decoded"));
}
