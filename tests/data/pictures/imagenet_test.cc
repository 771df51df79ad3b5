#include "data/pictures/imagenet.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

using data::open_dataset;
using data::Split;
using data::test::error_of;
using data::test::png_of;
using data::test::TempFolder;
using engine::ErrorKind;

namespace {

using Labels = std::vector<int64_t>;

Labels labels_of(const data::Dataset& set) {
  Labels labels;
  for (int64_t i = 0; i < set.size(); ++i) labels.push_back(set.label(i));
  return labels;
}

// Three classes to train on; four validation pictures, whose widths are 4, 5, 6, 7, under `val`.
void fill(const TempFolder& folder, const std::string& val) {
  for (const char* name : {"n01", "n02", "n03"}) {
    folder.write("train/" + std::string(name) + "/images/a.JPEG", png_of(4, 4, 3));
  }
  for (int i = 0; i < 4; ++i) {
    folder.write(val + "/val_" + std::to_string(i) + ".JPEG", png_of(4, 4 + i, 3));
  }
}

Labels validation(const TempFolder& folder, const std::string& kind, const std::string& more = "") {
  return labels_of(*open_dataset(kind + ":" + folder.path() + more, Split::kTest));
}

std::string message(const TempFolder& folder, const std::string& more = "") {
  return error_of([&] { validation(folder, "imagenet", more); }).message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("tiny-imagenet: folders of images, flat validation with annotations") {
  const TempFolder folder;
  fill(folder, "val/images");
  folder.write("val/val_annotations.txt",
               "val_2.JPEG\tn03\t0\t0\t63\t63\nval_0.JPEG\tn01\t0\t0\t63\t63\n"
               "val_1.JPEG\tn03\t1\t2\t3\t4\nval_3.JPEG\tn02\t0\t0\t1\t1\n");
  const std::string spec = "tiny-imagenet:" + folder.path();
  const auto train = open_dataset(spec, Split::kTrain);
  CHECK(train->info().kind == "tiny-imagenet");
  CHECK(train->info().class_names == std::vector<std::string>{"n01", "n02", "n03"});
  CHECK(labels_of(*train) == Labels{0, 1, 2});
  const auto test = open_dataset(spec, Split::kTest);
  CHECK(labels_of(*test) == Labels{0, 2, 2, 1});
  data::ImageU8 image;
  test->read(3, image);
  CHECK(image.width == 7);
  // A model's classes and their order go before the training folder's, which may be missing.
  std::filesystem::remove_all(folder / "train");
  const auto known = open_dataset(spec, Split::kTest, {.classes = {"n03", "n02", "n00", "n01"}});
  CHECK(labels_of(*known) == Labels{3, 0, 0, 1});
  CHECK(known->info().classes == 4);
  CHECK(error_of([&] { open_dataset(spec, Split::kTest); }).has("has no folder train"));
}

TEST_CASE("imagenet: validation by class folder, or flat with any of the usual label files") {
  const TempFolder folder;
  fill(folder, "val");
  CHECK(contains(message(folder), "name a label file: imagenet:PATH,labels=FILE"));
  folder.write("val.txt", "val_0.JPEG 0\nval_1.JPEG 2\nval_2.JPEG 1\nval_3.JPEG 1\n");
  CHECK(validation(folder, "imagenet") == Labels{0, 2, 1, 1});
  folder.write("imagenet_2012_validation_synset_labels.txt", "n02\nn02\r\nn01\n\nn03");
  CHECK(validation(folder, "imagenet") == Labels{1, 1, 0, 2});
  folder.write("LOC_val_solution.csv",
               "ImageId,PredictionString\nval_1,n01 1 2 3 4 \nval_0,n02 1 2 3 4 n02 5 6 7 8\n"
               "val_3,n03 1 1 1 1\nval_2,n03 0 0 0 0\n");
  CHECK(validation(folder, "imagenet") == Labels{1, 0, 2, 2});
  folder.write("val_annotations.txt",
               "val_0.JPEG n01\nval_1.JPEG n01\nval_2.JPEG n01\nval_3.JPEG n02\n");
  CHECK(validation(folder, "imagenet") == Labels{0, 0, 0, 1});
  folder.write("mine.txt",
               "\xef\xbb\xbf"
               "2\n2\n2\n0\n");
  CHECK(validation(folder, "imagenet", ",labels=" + (folder / "mine.txt")) == Labels{2, 2, 2, 0});

  for (int i = 0; i < 4; ++i) {
    const std::string name = "/val_" + std::to_string(i) + ".JPEG";
    std::filesystem::create_directory(folder / "val/n0" + std::to_string(1 + i % 3));
    std::filesystem::rename(folder / "val" + name,
                            folder / "val/n0" + std::to_string(1 + i % 3) + name);
  }
  CHECK(validation(folder, "imagenet") == Labels{0, 1, 2, 0});
}

TEST_CASE("imagenet: label files that do not fit") {
  const TempFolder folder;
  fill(folder, "val");
  const std::string file = folder / "val.txt";
  const auto with = [&](const std::string& text) {
    folder.write("val.txt", text);
    return message(folder);
  };
  CHECK(with("n01\nn02\nn03\n") == file +
                                       ": has no class for val_3.JPEG; complete it or remove "
                                       "the picture");
  CHECK(with("n01\nn02\nn03\nn01\nn02\n") ==
        file + ": line 5: more classes than the 4 pictures of " + (folder / "val"));
  CHECK(with("n01\nn02\nm03\nn01\n") ==
        file + ": line 3: a class that the training split does not have; the nearest is n03");
  CHECK(contains(with("1\n2\n3\n1\n"), "line 3: class 3, expected 0 to 2 in the order of"));
  CHECK(contains(with("-1\n2\n3\n1\n"), "line 1: a class that the training split does not have"));
  CHECK(contains(with("val_0.JPEG n01\nval_9.JPEG n01\n"),
                 "line 2: names val_9.JPEG, but there is no such picture"));
  CHECK(contains(with("val_0.JPEG n01\nval_0 n02\n"),
                 "line 2: a second class for val_0.JPEG; remove one"));
  CHECK(contains(with("val_0.JPEG n01\nn02\n"), "line 2: a class without a file name"));
  CHECK(contains(with("n01\nval_1.JPEG n02\n"), "line 2: a file name, which the lines before"));
  CHECK(contains(with("n01\n1\nn02\nn02\n"), "line 2: a class that the training split does not"));
  CHECK(contains(with(""), "has no class for val_0.JPEG"));
  CHECK(contains(with(std::string(1000, '\0')), "line 1: a class that the training split"));
  CHECK(contains(message(folder, ",labels=/none"), "imagenet: no label file \"/none\""));
  std::filesystem::remove_all(folder / "val");
  CHECK(contains(message(folder), "has no folder val"));
  CHECK(error_of([] { open_dataset("imagenet:/none", Split::kTrain); }).kind == ErrorKind::kIo);
  CHECK(error_of([] { open_dataset("imagenet:", Split::kTrain); }).has("no folder given"));
}
