#include "data/shapes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "data/dataset.h"
#include "tests/data/temp_folder.h"

using data::ImageU8;
using data::open_dataset;
using data::Split;
using data::test::Bytes;
using data::test::Caught;
using data::test::error_of;
using engine::ErrorKind;

namespace {

Bytes read(const data::Dataset& set, int64_t i) {
  ImageU8 image;
  set.read(i, image);
  return image.pixels;
}

}  // namespace

TEST_CASE("shapes: sizes, classes and names") {
  const auto train = open_dataset("shapes:", Split::kTrain);
  CHECK(train->size() == 10000);
  CHECK(train->info().height == 32);
  CHECK(train->info().channels == 3);
  CHECK(train->info().classes == 10);
  CHECK(train->info().class_names[8] == "star");
  CHECK(train->label(27) == 7);
  const auto test = open_dataset("shapes:test=7,size=17", Split::kTest);
  CHECK(test->size() == 7);
  CHECK(test->info().width == 17);
  CHECK(read(*test, 6).size() == 17 * 17 * 3);
}

TEST_CASE("shapes: an image is a function of split and index") {
  const auto train = open_dataset("shapes:", Split::kTrain);
  const auto fewer = open_dataset("shapes:train=50", Split::kTrain);
  const auto test = open_dataset("shapes:", Split::kTest);
  CHECK(read(*train, 41) == read(*fewer, 41));
  CHECK(read(*train, 41) != read(*test, 41));
  CHECK(read(*train, 41) != read(*train, 31));
  Bytes elsewhere;
  std::thread([&] { elsewhere = read(*train, 41); }).join();
  CHECK(elsewhere == read(*train, 41));
}

TEST_CASE("shapes: parts tell the shape from the background") {
  for (const char* spec : {"shapes:", "shapes:size=16", "shapes:size=45"}) {
    const auto set = open_dataset(spec, Split::kTrain);
    const int64_t size = set->info().height;
    for (int64_t i = 0; i < 200; ++i) {
      CAPTURE(spec);
      CAPTURE(i);
      Bytes parts;
      REQUIRE(set->parts(i, parts));
      REQUIRE(static_cast<int64_t>(parts.size()) == size * size);
      const auto count = [&](int part) { return std::count(parts.begin(), parts.end(), part); };
      CHECK(count(2) >= size * size / 200);
      CHECK(count(1) > 0);
      CHECK(count(0) > size * size / 10);
      // No shape pixel touches a background pixel: there is always an edge between.
      int64_t touching = 0;
      for (int64_t p = 0; p + size < size * size; ++p) {
        touching += parts[p] + parts[p + size] == 2 && parts[p] != 1;
        touching += (p + 1) % size != 0 && parts[p] + parts[p + 1] == 2 && parts[p] != 1;
      }
      CHECK(touching == 0);
    }
  }
}

TEST_CASE("shapes: the shape stands out from its background") {
  const auto set = open_dataset("shapes:", Split::kTrain);
  for (int64_t i = 0; i < 200; ++i) {
    CAPTURE(i);
    Bytes parts;
    set->parts(i, parts);
    const Bytes pixels = read(*set, i);
    double sum[3][3] = {};
    int64_t n[3] = {};
    for (size_t p = 0; p < parts.size(); ++p) {
      ++n[parts[p]];
      for (int c = 0; c < 3; ++c) sum[parts[p]][c] += pixels[3 * p + c];
    }
    double distance = 0;
    for (int c = 0; c < 3; ++c) {
      distance +=
          std::abs(sum[2][c] / static_cast<double>(n[2]) - sum[0][c] / static_cast<double>(n[0]));
    }
    CHECK(distance > 30);
  }
}

TEST_CASE("shapes: wrong options") {
  Caught caught = error_of([] { open_dataset("shapes:sise=3", Split::kTrain); });
  CHECK(caught.kind == ErrorKind::kValue);
  CHECK(caught.has("did you mean \"size\"?"));
  for (const char* bad : {"size=", "size", "size=8", "size=9999", "size=3x", "train=0", "test=-1",
                          "size=32,,train=5", "train=99999999999999999999"}) {
    CAPTURE(bad);
    CHECK(error_of([&] { open_dataset(std::string("shapes:") + bad, Split::kTrain); }).kind ==
          ErrorKind::kValue);
  }
}
