#include "data/pictures/flowers.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/data/temp_folder.h"
#include "tests/support/mat_file.h"
#include "tests/support/picture_files.h"

using data::open_dataset;
using data::Split;
using data::test::error_of;
using data::test::mat;
using data::test::png_of;
using data::test::TempFolder;
using engine::ErrorKind;

namespace {

// Eight pictures, whose widths are 2 to 9, of the classes 1, 1, 2, 2, 3, 3, 102, 102.
void fill(const TempFolder& folder) {
  for (int i = 1; i <= 8; ++i) {
    folder.write("jpg/image_0000" + std::to_string(i) + ".jpg", png_of(4, i + 1, 3));
  }
  folder.write("imagelabels.mat", mat({{"labels", {1, 1, 2, 2, 3, 3, 102, 102}}}));
  folder.write("setid.mat", mat({{"trnid", {7, 1, 3}}, {"valid", {5}}, {"tstid", {2, 4, 6, 8}}}));
}

std::vector<int64_t> labels_of(const data::Dataset& set) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < set.size(); ++i) labels.push_back(set.label(i));
  return labels;
}

}  // namespace

TEST_CASE("flowers102: splits and labels of the authors' files") {
  const TempFolder folder;
  fill(folder);
  const std::string spec = "flowers102:" + folder.path();
  const auto train = open_dataset(spec, Split::kTrain);
  CHECK(train->info().classes == 102);
  CHECK(train->info().class_names[101] == "102");
  CHECK(labels_of(*train) == std::vector<int64_t>{101, 0, 1});
  data::ImageU8 image;
  train->read(0, image);
  CHECK(image.width == 8);
  CHECK(train->name(0) == "jpg/image_00007.jpg");
  CHECK(labels_of(*open_dataset(spec, Split::kTest)) == std::vector<int64_t>{0, 1, 2, 101});
  CHECK(labels_of(*open_dataset(spec + ",train=trnid+valid", Split::kTrain)) ==
        std::vector<int64_t>{101, 0, 1, 2});
}

TEST_CASE("flowers102: files that are missing or do not fit") {
  const TempFolder folder;
  fill(folder);
  const std::string spec = "flowers102:" + folder.path();
  const auto message = [&](const std::string& more = "") {
    return error_of([&] { open_dataset(spec + more, Split::kTrain); });
  };
  CHECK(message(",train=all").has("train=all, expected train=trnid or train=trnid+valid"));
  folder.write("setid.mat", mat({{"trnid", {1, 9}}, {"valid", {5}}, {"tstid", {2}}}));
  CHECK(message().has("variable trnid names picture 9, but imagelabels.mat has labels for 1 to 8"));
  folder.write("setid.mat", mat({{"trnid", {1, 0}}, {"valid", {5}}, {"tstid", {2}}}));
  CHECK(message().has("names picture 0"));
  folder.write("setid.mat", mat({{"trnid", {1, 3, 1}}}));
  CHECK(message().has("names picture 1 twice"));
  folder.write("setid.mat", mat({{"trn", {1}}}));
  CHECK(message().has("has no variable trnid, but trn"));
  folder.write("setid.mat", mat({{"trnid", {1, 2}}}));
  folder.write("imagelabels.mat", mat({{"labels", {1, 103}}}));
  CHECK(message().has("label 103 of picture 2, expected 1 to 102"));
  folder.write("imagelabels.mat", mat({{"labels", {1, 2}}}));
  folder.remove("jpg/image_00002.jpg");
  CHECK(message().kind == ErrorKind::kIo);
  CHECK(message().has("image_00002.jpg is missing"));
  folder.remove("setid.mat");
  CHECK(message().has("setid.mat is missing"));
}
