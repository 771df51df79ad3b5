#include "data/packed/packed.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "data/codec/decode_image.h"
#include "data/split.h"
#include "data/transform/resize_pil.h"
#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

using data::Dataset;
using data::ImageU8;
using data::open_dataset;
using data::Split;
using data::test::error_of;
using data::test::jpeg_of;
using data::test::pixels_of;
using data::test::png_of;
using data::test::TempFolder;
using engine::ErrorKind;

namespace {

// Five training and two test pictures of several sizes and formats.
void fill(const TempFolder& folder) {
  folder.write("train/ape/a.jpg", jpeg_of(pixels_of(20, 30, 3), 20, 30, 3));
  folder.write("train/ape/b.png", png_of(8, 8, 3));
  folder.write("train/cat/c.jpg", jpeg_of(pixels_of(40, 21, 3), 40, 21, 3));
  folder.write("train/cat/d.png", png_of(33, 17, 1));
  folder.write("train/cat/e.jpg", jpeg_of(pixels_of(9, 60, 3), 9, 60, 3));
  folder.write("test/ape/f.jpg", jpeg_of(pixels_of(16, 16, 3), 16, 16, 3));
  folder.write("test/cat/g.png", png_of(50, 50, 3));
}

std::unique_ptr<Dataset> folder_set(const TempFolder& folder, Split split) {
  return open_dataset("image-folder:" + folder.path(), split);
}

void pack(const Dataset& set, const std::string& path, int64_t shorter, int quality = 80) {
  data::PackWriter writer(path, set.info().kind, set.info().class_names);
  data::pack_set(set, {shorter, quality}, writer);
  writer.finish();
}

ImageU8 read(const Dataset& set, int64_t i) {
  ImageU8 image;
  set.read(i, image);
  return image;
}

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void put(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

TEST_CASE("packed: whole files come back byte for byte, in their order") {
  const TempFolder folder, out;
  fill(folder);
  const auto plain = folder_set(folder, Split::kTrain);
  pack(*plain, out / "train.pack", 0);
  const auto packed = open_dataset("packed:" + out.path(), Split::kTrain);
  CHECK(packed->info().kind == "packed");
  CHECK(packed->info().class_names == plain->info().class_names);
  CHECK(packed->info().height == 0);
  REQUIRE(packed->size() == 5);
  for (int64_t i = 0; i < 5; ++i) {
    CHECK(packed->label(i) == plain->label(i));
    CHECK(packed->name(i) == plain->name(i));
    CHECK(read(*packed, i).pixels == read(*plain, i).pixels);
  }
  // Packing the same again gives the same bytes.
  pack(*plain, out / "again.pack", 0);
  CHECK(content(out / "again.pack") == content(out / "train.pack"));
  CHECK(error_of([&] { read(*packed, 5); }).has("picture 5 of 5"));
}

TEST_CASE("packed: larger pictures get their shorter side, smaller ones stay") {
  const TempFolder folder, out;
  fill(folder);
  const auto plain = folder_set(folder, Split::kTrain);
  pack(*plain, out / "train.pack", 12);
  const auto packed = open_dataset("packed:" + out.path(), Split::kTrain);
  for (int64_t i = 0; i < packed->size(); ++i) {
    const ImageU8 before = read(*plain, i), after = read(*packed, i);
    CAPTURE(plain->name(i));
    if (std::min(before.height, before.width) <= 12) {
      CHECK(after.pixels == before.pixels);
      continue;
    }
    CHECK(std::min(after.height, after.width) == 12);
    ImageU8 scratch, want;
    data::resize_pil_bilinear(before, after.height, after.width, scratch, want);
    int64_t far = 0;  // JPEG of noise-like pixels is coarse; the picture is there
    for (size_t p = 0; p < want.pixels.size(); ++p) {
      far += std::abs(int{want.pixels[p]} - int{after.pixels[p]});
    }
    CHECK(far < 40 * static_cast<int64_t>(want.pixels.size()));
  }
}

TEST_CASE("packed: pixels without a format come back as they were") {
  const TempFolder folder, out;
  fill(folder);
  const auto plain = folder_set(folder, Split::kTrain);
  pack(*plain, out / "train.pack", 12, 0);
  const auto packed = open_dataset("packed:" + out.path(), Split::kTrain);
  for (int64_t i = 0; i < packed->size(); ++i) {
    const ImageU8 before = read(*plain, i), after = read(*packed, i);
    CHECK(after.channels == 3);
    if (std::min(before.height, before.width) <= 12) {
      CHECK(after.pixels == before.pixels);
      continue;
    }
    CHECK(std::min(after.height, after.width) == 12);
    ImageU8 scratch, want;
    data::resize_pil_bilinear(before, after.height, after.width, scratch, want);
    CHECK(after.pixels == want.pixels);
  }
  // A size that does not fit the bytes.
  data::PackWriter writer(out / "test.pack", "test", {"ape"});
  ImageU8 size;
  size.height = 2, size.width = 3;
  const std::string pixels = "pixels: 17 bytes, not 18.";
  writer.add("odd", 0, size, {pixels.begin(), pixels.end()});
  writer.finish();
  CHECK(error_of([&] {
          open_dataset("packed:" + out.path(), Split::kTrain, {.jpeg = data::JpegDialect::kFast});
        }).has("train.pack: holds pixels of JPEG files that were decoded accurately"));
  const auto odd = open_dataset("packed:" + out.path(), Split::kTest);
  CHECK(error_of([&] {
          read(*odd, 0);
        }).has("picture odd has 17 bytes of pixels, which are not 2x3"));
}

TEST_CASE("packed: sizes that no picture has are refused when the set is opened") {
  const TempFolder out;
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{
           {2, 0x5555555555555557}, {int64_t{1} << 40, 1}, {-1, 1}}) {
    data::PackWriter writer(out / "train.pack", "test", {"ape"});
    ImageU8 size;
    size.height = height, size.width = width;
    const std::string pixels = "pixels: 0123456789";
    writer.add("forged", 0, size, {pixels.begin(), pixels.end()});
    writer.finish();
    CHECK(error_of([&] {
            open_dataset("packed:" + out.path(), Split::kTrain);
          }).has("its index contradicts itself"));
  }
}

TEST_CASE("packed: splits, parts and the classes of a model") {
  const TempFolder folder, out;
  fill(folder);
  for (const Split split : {Split::kTrain, Split::kTest}) {
    pack(*folder_set(folder, split), out / std::string(split_name(split)) + ".pack", 10);
  }
  const std::string spec = "packed:" + out.path();
  CHECK(open_dataset(spec, Split::kTest)->size() == 2);
  CHECK(data::open_dataset(spec, data::parse_split("train[:40%]"))->size() == 2);
  const auto known = open_dataset(spec, Split::kTest, {.classes = {"cat", "dog", "ape"}});
  CHECK(known->label(0) == 2);
  CHECK(known->label(1) == 0);
  CHECK(known->info().classes == 3);
  CHECK(error_of([&] {
          open_dataset(spec, Split::kTest, {.classes = {"cat"}});
        }).has("packed: has class ape, which the model does not know; the nearest is cat"));
}

TEST_CASE("packed: what is cut short, damaged or of another version is one line") {
  const TempFolder folder, out;
  fill(folder);
  pack(*folder_set(folder, Split::kTrain), out / "train.pack", 0);
  const std::string path = out / "train.pack", spec = "packed:" + out.path(), whole = content(path);
  const auto opened = [&](const std::string& text) {
    put(path, text);
    return error_of([&] { open_dataset(spec, Split::kTrain); });
  };
  for (size_t size = 0; size < whole.size(); size += 1 + size / 20) {
    const auto error = opened(whole.substr(0, size));
    CHECK(error.kind == ErrorKind::kFormat);
    CHECK(error.has("pack the set again"));
  }
  std::string other = whole;
  other[15] = '2';
  CHECK(opened(other).has("begins with \"robustmoe pack 2\", expected \"robustmoe pack 1\""));
  CHECK(opened("PK" + whole).has("begins with \"something else\""));
  // Any flipped bit: in the index at once, in a picture when it is read.
  for (size_t at = 16; at < whole.size(); at += 1 + at / 60) {
    CAPTURE(at);
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 2);
    put(path, flipped);
    const auto error = error_of([&] {
      const auto set = open_dataset(spec, Split::kTrain);
      for (int64_t i = 0; i < set->size(); ++i) read(*set, i);
    });
    CHECK(error.kind == ErrorKind::kFormat);
    CHECK(error.has("train.pack"));
  }
  CHECK(error_of([&] { open_dataset(spec, Split::kTest); }).kind == ErrorKind::kIo);
  CHECK(error_of([] { open_dataset("packed:/none", Split::kTrain); }).kind == ErrorKind::kIo);
}

TEST_CASE("packed: nothing half-written is left") {
  const TempFolder folder, out;
  fill(folder);
  folder.write("train/cat/d.png", std::string("no picture"));
  data::OpenOptions options;
  options.inspect = false;
  const auto set = open_dataset("image-folder:" + folder.path(), Split::kTrain, options);
  const auto error = error_of([&] { pack(*set, out / "train.pack", 10); });
  CHECK(error.has("d.png: neither a JPEG nor a PNG"));
  CHECK(std::filesystem::is_empty(out.path()));
  CHECK(error_of([&] { pack(*set, "/none/train.pack", 10); }).kind == ErrorKind::kIo);
  const auto drawn = open_dataset("shapes:size=16,train=20,test=10", Split::kTrain);
  CHECK(error_of([&] { pack(*drawn, out / "x.pack", 10); }).has("has no file for each picture"));
}
