#include "data/pictures/picture_files.h"

#include <doctest/doctest.h>

#include <vector>

#include "data/codec/decode_image.h"
#include "data/codec/encode_image.h"
#include "tests/data/temp_folder.h"

using data::ImageU8;
using data::PictureFiles;
using data::test::error_of;
using data::test::TempFolder;

TEST_CASE("encode_png: comes back as it was") {
  for (const int64_t channels : {1, 3}) {
    ImageU8 image, back;
    image.reshape(3, 5, channels);
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(17 * i);
    data::decode_image(data::encode_png(image), "x", back);
    CHECK(back.height == 3);
    CHECK(back.width == 5);
    for (size_t p = 0; p < 15; ++p) {
      for (size_t c = 0; c < 3; ++c) {
        CHECK(back.pixels[3 * p + c] == image.pixels[channels * p + (channels == 3 ? c : 0)]);
      }
    }
  }
  CHECK(error_of([] { data::encode_png({}); }).kind == engine::ErrorKind::kValue);
}

TEST_CASE("picture files: in order, in colour or as luma") {
  const TempFolder folder;
  ImageU8 image;
  image.reshape(1, 2, 3);
  image.pixels = {255, 0, 0, 10, 200, 30};
  folder.write("a.png", data::encode_png(image));
  image.pixels = {1, 2, 3, 4, 5, 6};
  folder.write("b.png", data::encode_png(image));
  const PictureFiles colour({folder / "b.png", folder / "a.png"}, 3);
  CHECK(colour.size() == 2);
  ImageU8 out;
  colour.read(0, out);
  CHECK(out.pixels == std::vector<uint8_t>{1, 2, 3, 4, 5, 6});
  const PictureFiles grey({folder / "a.png", folder / "none.png"}, 1);
  grey.read(0, out);
  CHECK(out.channels == 1);
  CHECK(out.pixels == std::vector<uint8_t>{76, 124});  // 76.245 and 123.81
  CHECK(error_of([&] { grey.read(1, out); }).kind == engine::ErrorKind::kIo);
  CHECK(error_of([&] { grey.read(2, out); }).kind == engine::ErrorKind::kValue);
  CHECK(error_of([] { PictureFiles({}, 2); }).has("1 or 3 channels"));
}
