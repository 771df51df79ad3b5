#include "data/split.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "data/names.h"
#include "tests/data/temp_folder.h"

using data::parse_split;
using data::Split;
using data::SplitPart;
using data::test::error_of;

namespace {

using Ends = std::pair<int64_t, int64_t>;

Ends ends(const std::string& text, int64_t images) {
  const SplitPart part = parse_split(text);
  return {part.begin.of(images), part.end.of(images)};
}

std::vector<int64_t> labels_of(const data::Dataset& set) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < set.size(); ++i) labels.push_back(set.label(i));
  return labels;
}

}  // namespace

TEST_CASE("split: bounds as tensorflow_datasets has them") {
  CHECK(ends("train", 7) == Ends{0, 7});
  CHECK(parse_split("test").split == Split::kTest);
  CHECK(parse_split("test[:]").whole());
  // The published splits (spec 3.1): 1,268,355 and 12,812 images.
  CHECK(ends("train[:99%]", 1281167) == Ends{0, 1268355});
  CHECK(ends("train[99%:]", 1281167) == Ends{1268355, 1281167});
  CHECK(ends("train[:98%]", 50000) == Ends{0, 49000});
  CHECK(ends("train[10%:20%]", 50) == Ends{5, 10});
  CHECK(ends("train[5:8]", 10) == Ends{5, 8});
  CHECK(ends("train[-3:]", 10) == Ends{7, 10});
  CHECK(ends("train[:-3]", 10) == Ends{0, 7});
  CHECK(ends("train[-20%:-10%]", 10) == Ends{8, 9});
  CHECK(ends("train[:50]", 10) == Ends{0, 10});
  CHECK(ends("train[-50:]", 10) == Ends{0, 10});
  // Halves go to the even neighbour, as Python rounds.
  CHECK(ends("train[:50%]", 5) == Ends{0, 2});
  CHECK(ends("train[:50%]", 7) == Ends{0, 4});
  CHECK(ends("train[-50%:]", 5) == Ends{3, 5});
  CHECK(ends("train[:51%]", 5) == Ends{0, 3});
}

TEST_CASE("split: a part has the images of the whole") {
  const std::string spec = "shapes:size=16,train=20,test=10";
  const auto whole = data::open_dataset(spec, Split::kTrain);
  const auto part = data::open_dataset(spec, parse_split("train[25%:75%]"));
  REQUIRE(part->size() == 10);
  CHECK(part->info().classes == whole->info().classes);
  data::ImageU8 a, b;
  std::vector<uint8_t> parts_a, parts_b;
  for (int64_t i = 0; i < 10; ++i) {
    CHECK(part->label(i) == whole->label(5 + i));
    part->read(i, a);
    whole->read(5 + i, b);
    CHECK(a.pixels == b.pixels);
    CHECK(part->parts(i, parts_a));
    CHECK(whole->parts(5 + i, parts_b));
    CHECK(parts_a == parts_b);
  }
  CHECK(labels_of(*data::open_dataset(spec, parse_split("train"))) == labels_of(*whole));
  CHECK(error_of([&] { part->label(10); }).has("image 10 of 10"));
  CHECK(error_of([&] { part->label(-1); }).kind == engine::ErrorKind::kValue);
}

TEST_CASE("split: what is none is refused") {
  for (const char* wrong :
       {"", "val", "Train", "train[", "train[]", "train[5]", "train[:x]", "train[:101%]",
        "train[-101%:]", "train[-9223372036854775808%:]", "train[:5%", "train[:5%]x",
        "train[1:2:3]", "[:5]", "train [:5]", "train[: 5]", "train[:99999999999999999999]"}) {
    CAPTURE(wrong);
    const auto error = error_of([&] { parse_split(wrong); });
    CHECK(error.kind == engine::ErrorKind::kValue);
    CHECK(error.has("is no split, expected train, test, or a part such as train[:99%]"));
  }
  const auto empty = error_of(
      [] { data::open_dataset("shapes:size=16,train=20,test=10", parse_split("train[:1%]")); });
  CHECK(empty.kind == engine::ErrorKind::kValue);
  CHECK(empty.has("train[:1%] is empty: images 0 to 0 of 20"));
}

TEST_CASE("classes of a model: labels are its, whatever the order and the kind") {
  const std::string spec = "shapes:size=16,train=30,test=10";
  const auto plain = data::open_dataset(spec, Split::kTrain);
  std::vector<std::string> turned = plain->info().class_names;
  std::reverse(turned.begin(), turned.end());
  turned.emplace_back("one more");
  for (const char* split : {"train", "test", "train[:50%]"}) {
    const auto own = data::open_dataset(spec, parse_split(split));
    const auto set = data::open_dataset(spec, parse_split(split), {.classes = turned});
    CHECK(set->info().classes == 11);
    CHECK(set->info().class_names == turned);
    for (int64_t i = 0; i < set->size(); ++i) {
      CHECK(turned[static_cast<size_t>(set->label(i))] ==
            own->info().class_names[static_cast<size_t>(own->label(i))]);
    }
  }
  turned.erase(turned.begin());
  CHECK(error_of([&] {
          data::open_dataset(spec, Split::kTrain, {.classes = turned});
        }).has("which the model does not know; the nearest is "));
  // Numbers say nothing about order.
  const auto numbered =
      data::open_dataset(spec, Split::kTrain, {.classes = data::number_names(10)});
  CHECK(labels_of(*numbered) == labels_of(*plain));
}
