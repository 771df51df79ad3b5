#include "data/dataset.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "data/names.h"
#include "tests/data/temp_folder.h"

using data::open_dataset;
using data::Split;
using data::test::Caught;
using data::test::error_of;
using engine::ErrorKind;

TEST_CASE("open_dataset: an unknown kind names the nearest one and all") {
  Caught caught = error_of([] { open_dataset("cifar01:/data", Split::kTrain); });
  CHECK(caught.kind == ErrorKind::kValue);
  CHECK(caught.has("unknown kind \"cifar01\""));
  CHECK(caught.has("did you mean \"cifar10:\"?"));
  CHECK(caught.has(
      "cifar10, cifar100, flowers102, idx, image-folder, imagenet, packed, tiny-imagenet, shapes"));
  CHECK(error_of([] { open_dataset("/data/cifar", Split::kTrain); }).has("expected KIND:PATH"));
  CHECK(error_of([] { open_dataset("", Split::kTrain); }).kind == ErrorKind::kValue);
}

TEST_CASE("sample_crc32: of up to 64 pictures, spread evenly, with labels and sizes") {
  // n grey 2 x 2 pictures; picture i has value i and label i % 2, unless altered.
  struct Grey final : data::Dataset {
    data::Info about;
    std::vector<uint8_t> value;
    std::vector<int64_t> labels;
    explicit Grey(int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        value.push_back(static_cast<uint8_t>(i));
        labels.push_back(i % 2);
      }
    }
    const data::Info& info() const override { return about; }
    int64_t size() const override { return static_cast<int64_t>(value.size()); }
    int64_t label(int64_t i) const override { return labels.at(static_cast<size_t>(i)); }
    void read(int64_t i, data::ImageU8& out) const override {
      out.reshape(2, 2, 1);
      out.pixels.assign(4, value.at(static_cast<size_t>(i)));
    }
  };
  const uint32_t plain = data::sample_crc32(Grey(128), 128);
  CHECK(data::sample_crc32(Grey(128), 128) == plain);
  CHECK(data::sample_crc32(Grey(128), 64) != plain);
  CHECK(data::sample_crc32(Grey(200), 128) == plain);  // what lies beyond is not looked at
  for (const size_t looked_at : {0u, 2u, 126u}) {
    Grey pixel(128), label(128);
    ++pixel.value[looked_at];
    ++label.labels[looked_at];
    CHECK(data::sample_crc32(pixel, 128) != plain);
    CHECK(data::sample_crc32(label, 128) != plain);
  }
  Grey passed_over(128);
  ++passed_over.value[1];
  CHECK(data::sample_crc32(passed_over, 128) == plain);
  CHECK(data::sample_crc32(Grey(3), 3) != data::sample_crc32(Grey(2), 2));
  CHECK(data::sample_crc32(Grey(0), 0) == 0);
}

TEST_CASE("nearest_name: fewest edits, first of equals") {
  CHECK(data::nearest_name("shpes", {"idx", "shapes", "cifar10"}) == "shapes");
  CHECK(data::nearest_name("xyz", {"abc", "def"}) == "abc");
  CHECK(data::nearest_name("", {"abcd", "ef"}) == "ef");
}
