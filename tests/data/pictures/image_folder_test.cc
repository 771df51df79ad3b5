#include "data/pictures/image_folder.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "data/loader.h"
#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

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

// Two classes; pictures of 6 x 6, one grey, one in a deeper folder.
void fill(const TempFolder& folder) {
  folder.write("train/cat/b.png", png_of(6, 6, 3));
  folder.write("train/cat/a.JPG", jpeg_of(pixels_of(6, 6, 3), 6, 6, 3));
  folder.write("train/ape/deep/x.png", png_of(6, 6, 1));
  folder.write("train/ape/notes.txt", "hi");
  folder.write("train/ape/.hidden.png", "hi");
  folder.write("val/cat/c.png", png_of(6, 6, 3));
}

std::string spec(const TempFolder& folder) { return "image-folder:" + folder.path(); }

}  // namespace

TEST_CASE("image-folder: classes and pictures in the order of their names") {
  const TempFolder folder;
  fill(folder);
  const auto train = open_dataset(spec(folder), Split::kTrain);
  CHECK(train->info().kind == "image-folder");
  CHECK(train->info().classes == 2);
  CHECK(train->info().class_names == std::vector<std::string>{"ape", "cat"});
  CHECK(train->info().channels == 3);
  CHECK(train->info().height == 6);
  REQUIRE(train->size() == 3);
  CHECK(train->label(0) == 1);  // one of two, then one of one
  CHECK(train->label(1) == 0);
  CHECK(train->label(2) == 1);
  folder.write("train/ape/y.png", png_of(6, 6, 1));
  folder.write("train/ape/z.png", png_of(6, 6, 1));
  folder.write("train/.git/x.png", png_of(6, 6, 1));
  folder.write("train/ape/.old/x.png", png_of(6, 6, 1));
  const auto more = open_dataset(spec(folder), Split::kTrain);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < more->size(); ++i) labels.push_back(more->label(i));
  CHECK(labels == std::vector<int64_t>{0, 1, 0, 1, 0});  // in turn
  ImageU8 image;
  train->read(2, image);
  CHECK(image.pixels == pixels_of(6, 6, 3));
  const auto test = open_dataset(spec(folder), Split::kTest);
  CHECK(test->size() == 1);
  CHECK(test->label(0) == 1);
  folder.write("test/ape/d.png", png_of(6, 6, 3));
  CHECK(open_dataset(spec(folder), Split::kTest)->label(0) == 0);  // test goes before val
  CHECK(error_of([&] { train->read(3, image); }).kind == ErrorKind::kValue);
}

TEST_CASE("image-folder: pictures of several sizes go through a loader") {
  const TempFolder folder;
  fill(folder);
  folder.write("train/cat/z.png", png_of(40, 9, 3));
  const auto train = open_dataset(spec(folder), Split::kTrain);
  CHECK(train->info().height == 0);
  CHECK(train->info().width == 0);
  data::LoaderOptions options;
  options.image_size = 8;
  options.batch = 4;
  options.two_view = true;
  options.view_a.crop = options.view_b.crop = data::Crop::kInception;
  data::Loader loader(*train, options);
  CHECK(loader.next()->views == 8);
  data::Loader all = data::Loader::evaluation(*train, options);
  CHECK(all.next()->sources == 4);
}

TEST_CASE("image-folder: what is missing, empty, misplaced or of another format") {
  const TempFolder folder;
  const auto message = [&](Split split = Split::kTrain) {
    return error_of([&] { open_dataset(spec(folder), split); });
  };
  CHECK(error_of([] { open_dataset("image-folder:", Split::kTrain); }).has("no folder given"));
  CHECK(error_of([] { open_dataset("image-folder:/none", Split::kTrain); }).kind == ErrorKind::kIo);
  CHECK(message().has("has no folder train"));
  std::filesystem::create_directory(folder / "train");
  CHECK(message().has("no class folders"));
  fill(folder);
  std::filesystem::create_directory(folder / "train/dog");
  CHECK(message().has("train/dog: a class without pictures"));
  folder.write("train/dog/d.webp", "?");
  CHECK(message().has("d.webp: of a format that is not read"));
  std::filesystem::remove_all(folder / "train/dog");
  for (const char* name : {"na\xefve", "two\nlines"}) {
    folder.write("train/" + std::string(name) + "/x.png", png_of(6, 6, 3));
    CHECK(message().has("a class folder's name must be UTF-8"));
    std::filesystem::remove_all(folder / "train" + ("/" + std::string(name)));
  }
  folder.write("train/caf\xc3\xa9/x.png", png_of(6, 6, 3));
  CHECK(open_dataset(spec(folder), Split::kTrain)->info().classes == 3);
  std::filesystem::remove_all(folder / "train/caf\xc3\xa9");
  folder.write("val/cta/c.png", png_of(6, 6, 3));
  CHECK(message(Split::kTest)
            .has("val/cta: a class that the training split does not have; the nearest is cat"));
  std::filesystem::remove_all(folder / "val");
  CHECK(message(Split::kTest).has("has no folder test and no folder val"));
}

TEST_CASE("image-folder: bad pictures are refused, or skipped and listed") {
  const TempFolder folder;
  fill(folder);
  std::vector<uint8_t> cut = png_of(40, 40, 3);
  cut.resize(cut.size() / 2);
  folder.write("train/cat/cut.png", cut);
  const auto lazy = open_dataset(spec(folder), Split::kTrain);  // its header is whole
  ImageU8 image;
  const auto late = error_of([&] { lazy->read(3, image); });
  CHECK(late.has("cat/cut.png: "));
  CHECK(late.has("--skip-bad-images"));
  folder.write("train/ape/empty.jpg", "");
  folder.write("train/cat/text.png", "hello you");
  const auto early = error_of([&] { open_dataset(spec(folder), Split::kTrain); });
  CHECK(early.kind == ErrorKind::kFormat);
  CHECK(early.has("ape/empty.jpg: the file is empty"));

  std::vector<std::string> skipped;
  const auto good =
      open_dataset(spec(folder), Split::kTrain, {.skip_bad = true, .skipped = &skipped});
  CHECK(good->size() == 3);
  REQUIRE(skipped.size() == 3);
  CHECK(skipped[1].find("empty.jpg") != std::string::npos);
  CHECK(skipped[0].find("cut.png") != std::string::npos);
  CHECK(skipped[2].find("text.png") != std::string::npos);
  for (int64_t i = 0; i < 3; ++i) good->read(i, image);

  // A link that leads nowhere and a pipe are bad pictures, not none.
  std::filesystem::create_symlink("nowhere.png", folder / "train/cat/link.png");
  REQUIRE(::mkfifo((folder / "train/cat/pipe.png").c_str(), 0600) == 0);
  skipped.clear();
  open_dataset(spec(folder), Split::kTrain, {.skip_bad = true, .skipped = &skipped});
  CHECK(skipped.size() == 5);

  // Of a class none may be left.
  std::filesystem::create_directory(folder / "train/gnu");
  folder.write("train/gnu/only.png", "x");
  const auto emptied = error_of(
      [&] { open_dataset(spec(folder), Split::kTrain, {.skip_bad = true, .skipped = &skipped}); });
  CHECK(emptied.has("gnu: class gnu: every picture of this class is bad"));
}

TEST_CASE("image-folder: every stretch has all classes in their proportions") {
  const TempFolder folder;
  // 12 pictures of one class, 6 of another, 2 of a third.
  for (int i = 0; i < 12; ++i) {
    const std::string name = "/" + std::string(1, static_cast<char>('a' + i)) + ".png";
    folder.write("train/ape" + name, png_of(2, 2, 3));
    if (i < 6) folder.write("train/bee" + name, png_of(2, 2, 3));
    if (i < 2) folder.write("train/cat" + name, png_of(2, 2, 3));
  }
  const auto set = open_dataset(spec(folder), Split::kTrain);
  REQUIRE(set->size() == 20);
  std::vector<int64_t> first(3), all(3);
  for (int64_t i = 0; i < 20; ++i) {
    ++all[static_cast<size_t>(set->label(i))];
    if (i == 9) first = all;
  }
  CHECK(all == std::vector<int64_t>{12, 6, 2});
  CHECK(first == std::vector<int64_t>{6, 3, 1});
}

TEST_CASE("image-folder: a model's classes, in its order, for a test set of its own") {
  const TempFolder folder;
  folder.write("dog/a.png", png_of(6, 6, 3));
  folder.write("ape/b.png", png_of(6, 6, 3));
  const std::vector<std::string> classes = {"dog", "cat", "ape"};
  const auto set = open_dataset(spec(folder), Split::kTest, {.classes = classes});
  CHECK(set->info().classes == 3);
  CHECK(set->info().class_names == classes);
  REQUIRE(set->size() == 2);
  CHECK(set->label(0) == 2);
  CHECK(set->label(1) == 0);
  CHECK(error_of([&] { open_dataset(spec(folder), Split::kTest); }).kind == ErrorKind::kIo);
  const auto other = error_of([&] {
    open_dataset(spec(folder), Split::kTest, {.classes = {"dog", "cat"}});
  });
  CHECK(other.has("ape: a class that the training split does not have; the nearest is "));

  // Folders that are numbers count the classes, unless classes are called so.
  const TempFolder numbered;
  for (const char* name : {"0", "2", "10"}) {
    numbered.write(std::string(name) + "/a.png", png_of(6, 6, 3));
  }
  const std::vector<std::string> eleven = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"};
  const auto by_number = open_dataset(spec(numbered), Split::kTest, {.classes = eleven});
  CHECK(by_number->label(0) == 0);
  CHECK(by_number->label(1) == 10);  // "10" comes before "2"
  CHECK(by_number->label(2) == 2);
  const std::vector<std::string> called = {"10", "2", "0"};
  const auto by_name = open_dataset(spec(numbered), Split::kTest, {.classes = called});
  CHECK(by_name->label(0) == 2);
  CHECK(error_of([&] {
          open_dataset(spec(numbered), Split::kTest, {.classes = {"a", "b"}});
        }).has("0: a class that the training split does not have"));
}

TEST_CASE("image-folder: a model's classes hold for the training split, too") {
  const TempFolder folder;
  folder.write("train/cat/a.png", png_of(6, 6, 3));
  folder.write("test/cat/a.png", png_of(6, 6, 3));
  for (const Split split : {Split::kTrain, Split::kTest}) {
    CHECK(open_dataset(spec(folder), split, {.classes = {"ape", "bee", "cat"}})->label(0) == 2);
  }
}
