#include "data/cifar.h"

#include <doctest/doctest.h>

#include "data/dataset.h"
#include "tests/data/temp_folder.h"

using data::ImageU8;
using data::open_dataset;
using data::Split;
using data::test::Bytes;
using data::test::Caught;
using data::test::error_of;
using data::test::TempFolder;
using engine::ErrorKind;

namespace {

// n records: the given label bytes, then planes whose pixel p of channel c is r + 3p + 7c.
Bytes records(int n, const Bytes& labels) {
  Bytes bytes;
  for (int r = 0; r < n; ++r) {
    bytes.insert(bytes.end(), labels.begin(), labels.end());
    for (int c = 0; c < 3; ++c) {
      for (int p = 0; p < 1024; ++p) bytes.push_back(static_cast<uint8_t>(r + 3 * p + 7 * c));
    }
  }
  return bytes;
}

void write_cifar10(const TempFolder& folder, const std::string& inside) {
  for (int i = 1; i <= 5; ++i) {
    folder.write(inside + "data_batch_" + std::to_string(i) + ".bin",
                 records(2, {static_cast<uint8_t>(i)}));
  }
  folder.write(inside + "test_batch.bin", records(3, {9}));
}

}  // namespace

TEST_CASE("cifar10: planes become interleaved pixels, files follow one another") {
  const TempFolder folder;
  write_cifar10(folder, "");
  const auto train = open_dataset("cifar10:" + folder.path(), Split::kTrain);
  REQUIRE(train->size() == 10);
  CHECK(train->info().channels == 3);
  CHECK(train->info().classes == 10);
  CHECK(train->info().class_names[3] == "3");
  CHECK(train->label(0) == 1);
  CHECK(train->label(9) == 5);
  ImageU8 image;
  train->read(5, image);  // record 1 of data_batch_3
  CHECK(image.at(0, 0)[0] == 1);
  CHECK(image.at(0, 0)[2] == 15);
  CHECK(image.at(2, 5)[1] == static_cast<uint8_t>(1 + 3 * (2 * 32 + 5) + 7));
  CHECK(open_dataset("cifar10:" + folder.path(), Split::kTest)->size() == 3);
}

TEST_CASE("cifar10: the folder of the archive and its class names") {
  const TempFolder folder;
  write_cifar10(folder, "cifar-10-batches-bin/");
  folder.write("cifar-10-batches-bin/batches.meta.txt",
               std::string("airplane\nautomobile\nbird\ncat\ndeer\r\ndog\nfrog\nhorse\nship\n"
                           "truck\n\n"));
  const auto test = open_dataset("cifar10:" + folder.path(), Split::kTest);
  CHECK(test->info().class_names[4] == "deer");
  CHECK(test->info().class_names[9] == "truck");
  folder.write("cifar-10-batches-bin/batches.meta.txt", std::string("airplane\n"));
  const Caught caught = error_of([&] { open_dataset("cifar10:" + folder.path(), Split::kTest); });
  CHECK(caught.kind == ErrorKind::kFormat);
  CHECK(caught.has("batches.meta.txt: 1 class names, expected 10"));
}

TEST_CASE("cifar100: the fine label is the class") {
  const TempFolder folder;
  folder.write("cifar-100-binary/train.bin", records(2, {19, 99}));
  folder.write("cifar-100-binary/test.bin", records(1, {0, 42}));
  const auto train = open_dataset("cifar100:" + folder.path(), Split::kTrain);
  CHECK(train->size() == 2);
  CHECK(train->label(1) == 99);
  CHECK(train->info().classes == 100);
  CHECK(open_dataset("cifar100:" + folder.path(), Split::kTest)->label(0) == 42);

  folder.write("cifar-100-binary/test.bin", records(1, {20, 42}));
  CHECK(error_of([&] {
          open_dataset("cifar100:" + folder.path(), Split::kTest);
        }).has("test.bin: byte 0: label 20, expected 0 to 19"));
  folder.write("cifar-100-binary/test.bin", records(1, {2, 100}));
  CHECK(error_of([&] {
          open_dataset("cifar100:" + folder.path(), Split::kTest);
        }).has("test.bin: byte 1: label 100, expected 0 to 99"));
}

TEST_CASE("cifar10: damaged files are named, with the place") {
  const TempFolder folder;
  write_cifar10(folder, "");
  const auto test_error = [&](const Bytes& bytes) {
    folder.write("test_batch.bin", bytes);
    return error_of([&] { open_dataset("cifar10:" + folder.path(), Split::kTest); });
  };
  Bytes cut = records(3, {1});
  cut.resize(2 * 3073 + 100);
  Caught caught = test_error(cut);
  CHECK(caught.kind == ErrorKind::kFormat);
  CHECK(caught.has("test_batch.bin: byte 6146: record 2 has 100 bytes, expected 3073"));
  CHECK(test_error({}).has("test_batch.bin: byte 0: the file is empty"));
  Bytes outside = records(3, {1});
  outside[3073] = 10;
  CHECK(test_error(outside).has("test_batch.bin: byte 3073: label 10, expected 0 to 9"));
  caught = test_error(Bytes(10001 * 3073, 0));
  CHECK(caught.has("byte 30730000: the file goes on after 10000 records"));
}

TEST_CASE("cifar10: missing folder and files say what was looked for") {
  CHECK(error_of([] { open_dataset("cifar10:", Split::kTrain); }).kind == ErrorKind::kValue);
  Caught caught = error_of([] { open_dataset("cifar10:/no/such/place", Split::kTrain); });
  CHECK(caught.kind == ErrorKind::kIo);
  CHECK(caught.has("cifar-10-batches-bin"));
  const TempFolder folder;
  write_cifar10(folder, "");
  folder.remove("data_batch_4.bin");
  caught = error_of([&] { open_dataset("cifar10:" + folder.path(), Split::kTrain); });
  CHECK(caught.kind == ErrorKind::kIo);
  CHECK(caught.has("data_batch_4.bin is missing"));
}
