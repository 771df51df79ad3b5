#include "data/dataset.h"

#include <doctest/doctest.h>

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
  CHECK(caught.has("cifar10, cifar100, idx, shapes"));
  CHECK(error_of([] { open_dataset("/data/cifar", Split::kTrain); }).has("expected KIND:PATH"));
  CHECK(error_of([] { open_dataset("", Split::kTrain); }).kind == ErrorKind::kValue);
}

TEST_CASE("nearest_name: fewest edits, first of equals") {
  CHECK(data::nearest_name("shpes", {"idx", "shapes", "cifar10"}) == "shapes");
  CHECK(data::nearest_name("xyz", {"abc", "def"}) == "abc");
  CHECK(data::nearest_name("", {"abcd", "ef"}) == "ef");
}
