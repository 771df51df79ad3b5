#include "data/idx.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "data/dataset.h"
#include "tests/data/temp_folder.h"

using data::ImageU8;
using data::open_dataset;
using data::Split;
using data::test::Bytes;
using data::test::Caught;
using data::test::error_of;
using data::test::gzip;
using data::test::TempFolder;
using engine::ErrorKind;

namespace {

constexpr const char* kFashion = "/usr/share/datasets/fashion-mnist";

// Images of 2 x 3 pixels counting up from 0, labels 0, 1, 2, ….
Bytes images(uint8_t n) {
  Bytes bytes{0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 2, 0, 0, 0, 3};
  for (int i = 0; i < n * 6; ++i) bytes.push_back(static_cast<uint8_t>(i));
  return bytes;
}

Bytes labels(uint8_t n) {
  Bytes bytes{0, 0, 8, 1, 0, 0, 0, n};
  for (int i = 0; i < n; ++i) bytes.push_back(static_cast<uint8_t>(i % 10));
  return bytes;
}

const std::string kImages = "train-images-idx3-ubyte", kLabels = "train-labels-idx1-ubyte";

// Opens a folder of these two files.
Caught open_error(const Bytes& image_file, const Bytes& label_file,
                  const std::string& ending = "") {
  const TempFolder folder;
  folder.write(kImages + ending, image_file);
  folder.write(kLabels + ending, label_file);
  return error_of([&] { open_dataset("idx:" + folder.path(), Split::kTrain); });
}

}  // namespace

TEST_CASE("idx: reads plain and gzipped files, train and test") {
  const TempFolder folder;
  folder.write(kImages, images(4));
  folder.write(kLabels + ".gz", gzip(labels(4)));
  folder.write("t10k-images-idx3-ubyte.gz", gzip(images(2)));
  folder.write("t10k-labels-idx1-ubyte", labels(2));
  const auto train = open_dataset("idx:" + folder.path(), Split::kTrain);
  const auto test = open_dataset("idx:" + folder.path(), Split::kTest);
  REQUIRE(train->size() == 4);
  CHECK(test->size() == 2);
  CHECK(train->info().channels == 1);
  CHECK(train->info().height == 2);
  CHECK(train->info().width == 3);
  CHECK(train->info().classes == 10);
  CHECK(train->info().class_names[9] == "9");
  ImageU8 image;
  train->read(2, image);
  CHECK(image.pixels == Bytes{12, 13, 14, 15, 16, 17});
  CHECK(train->label(3) == 3);
  Bytes parts;
  CHECK_FALSE(train->parts(0, parts));
  CHECK(error_of([&] { train->read(4, image); }).kind == ErrorKind::kValue);
  CHECK(error_of([&] { train->label(-1); }).kind == ErrorKind::kValue);
}

TEST_CASE("idx: a truncated, oversized or foreign file is named, with the place") {
  Bytes cut = images(4);
  cut.resize(16 + 15);  // in image 2
  Caught caught = open_error(cut, labels(4));
  CHECK(caught.kind == ErrorKind::kFormat);
  CHECK(caught.has(kImages + ": byte "));
  CHECK(caught.has("truncated"));

  // A gzipped file may unpack to much: there the end itself is met.
  caught = open_error(gzip(cut), gzip(labels(4)), ".gz");
  CHECK(caught.has(kImages + ".gz: byte 31 of the unpacked data: the file ends inside image 2"));

  Bytes extra = images(4);
  extra.push_back(0);
  caught = open_error(extra, labels(4));
  CHECK(caught.has(kImages + ": byte 40: the file goes on"));

  extra = labels(4);
  extra.push_back(0);
  CHECK(open_error(images(4), extra).has(kLabels + ": byte 12: the file goes on"));

  caught = open_error({'<', 'h', 't', 'm', 'l', '>'}, labels(4));
  CHECK(caught.has(kImages + ": byte 0: magic number 60 104 116 109, expected 0 0 8 3"));
  CHECK(open_error(images(4), images(4)).has(kLabels + ": byte 0: magic number 0 0 8 3"));
  CHECK(open_error({}, labels(4)).has(kImages + ": byte 0: the file ends after 0 of the 4"));
  CHECK(open_error({0, 0, 8, 3, 0, 0}, labels(4)).has(": byte 6: the file ends"));
}

TEST_CASE("idx: wrong sizes, labels and counts") {
  Bytes huge = images(4);
  huge[4] = 0x7f;  // two thousand million images
  CHECK(open_error(huge, labels(4)).has("the header promises"));
  Bytes flat = images(4);
  flat[11] = 0;
  CHECK(open_error(flat, labels(4)).has(kImages + ": byte 8: size 0 on axis 1"));

  Bytes outside = labels(4);
  outside[8 + 2] = 10;
  Caught caught = open_error(images(4), outside);
  CHECK(caught.kind == ErrorKind::kFormat);
  CHECK(caught.has(kLabels + ": byte 10: label 10, expected 0 to 9"));

  caught = open_error(images(4), labels(3));
  CHECK(caught.has(kLabels + ": byte 4: 3 labels, expected 4"));
  CHECK(caught.has(kImages));
  CHECK(caught.message.find('\n') == std::string::npos);
}

TEST_CASE("idx: damaged gzip data") {
  Bytes packed = gzip(images(40));
  Bytes cut(packed.begin(), packed.begin() + static_cast<int64_t>(packed.size()) / 2);
  Caught caught = open_error(cut, gzip(labels(40)), ".gz");
  CHECK(caught.kind == ErrorKind::kFormat);
  CHECK(caught.has(kImages + ".gz: byte "));
  CHECK(caught.has("gzip data stops in the middle"));

  packed[packed.size() - 6] ^= 0xff;  // the checksum
  caught = open_error(packed, gzip(labels(40)), ".gz");
  CHECK(caught.kind == ErrorKind::kFormat);
  CHECK(caught.has("gzip data is corrupt"));
}

TEST_CASE("idx: missing folder and files say what was looked for") {
  CHECK(error_of([] { open_dataset("idx:", Split::kTrain); }).kind == ErrorKind::kValue);
  Caught caught = error_of([] { open_dataset("idx:/no/such/place", Split::kTest); });
  CHECK(caught.kind == ErrorKind::kIo);
  CHECK(caught.has("/no/such/place"));
  CHECK(caught.has("t10k-images-idx3-ubyte"));
  const TempFolder folder;
  folder.write(kImages, images(1));
  caught = error_of([&] { open_dataset("idx:" + folder.path(), Split::kTrain); });
  CHECK(caught.kind == ErrorKind::kIo);
  CHECK(caught.has("neither " + kLabels + " nor " + kLabels + ".gz is in " + folder.path()));
}

TEST_CASE("idx: Fashion-MNIST as installed" * doctest::skip(!std::filesystem::exists(kFashion))) {
  const auto train = open_dataset(std::string("idx:") + kFashion, Split::kTrain);
  const auto test = open_dataset(std::string("idx:") + kFashion, Split::kTest);
  CHECK(train->size() == 60000);
  CHECK(test->size() == 10000);
  CHECK(test->info().height == 28);
  CHECK(train->info().class_names[9] == "Ankle boot");
  CHECK(test->info().class_names[0] == "T-shirt/top");
  CHECK(train->label(0) == 9);
  CHECK(test->label(1) == 2);
  int64_t per_class[10] = {};
  for (int64_t i = 0; i < train->size(); ++i) ++per_class[train->label(i)];
  for (const int64_t n : per_class) CHECK(n == 6000);
}
