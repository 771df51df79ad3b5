#include "data/image_folder.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

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

void put(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

// Two classes; pictures of 6 x 6, one grey, one in a deeper folder.
void fill(const TempFolder& folder) {
  put(folder / "train/cat/b.png", png_of(6, 6, 3));
  put(folder / "train/cat/a.JPG", jpeg_of(pixels_of(6, 6, 3), 6, 6, 3));
  put(folder / "train/ape/deep/x.png", png_of(6, 6, 1));
  put(folder / "train/ape/notes.txt", {'h', 'i'});
  put(folder / "train/ape/.hidden.png", {'h', 'i'});
  put(folder / "val/cat/c.png", png_of(6, 6, 3));
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
  CHECK(train->label(0) == 0);
  CHECK(train->label(1) == 1);
  CHECK(train->label(2) == 1);
  put(folder / "train/ape/y.png", png_of(6, 6, 1));
  put(folder / "train/ape/z.png", png_of(6, 6, 1));
  put(folder / "train/.git/x.png", png_of(6, 6, 1));
  put(folder / "train/ape/.old/x.png", png_of(6, 6, 1));
  const auto more = open_dataset(spec(folder), Split::kTrain);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < more->size(); ++i) labels.push_back(more->label(i));
  CHECK(labels == std::vector<int64_t>{0, 1, 0, 1, 0});  // dealt out by class
  ImageU8 image;
  train->read(2, image);
  CHECK(image.pixels == pixels_of(6, 6, 3));
  const auto test = open_dataset(spec(folder), Split::kTest);
  CHECK(test->size() == 1);
  CHECK(test->label(0) == 1);
  put(folder / "test/ape/d.png", png_of(6, 6, 3));
  CHECK(open_dataset(spec(folder), Split::kTest)->label(0) == 0);  // test goes before val
  CHECK(error_of([&] { train->read(3, image); }).kind == ErrorKind::kValue);
}

TEST_CASE("image-folder: pictures of several sizes go through a loader") {
  const TempFolder folder;
  fill(folder);
  put(folder / "train/cat/z.png", png_of(40, 9, 3));
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
  put(folder / "train/dog/d.webp", {1});
  CHECK(message().has("d.webp: of a format that is not read"));
  std::filesystem::remove_all(folder / "train/dog");
  for (const char* name : {"na\xefve", "two\nlines"}) {
    put(folder / "train" + ("/" + std::string(name)) + "/x.png", png_of(6, 6, 3));
    CHECK(message().has("a class folder's name must be UTF-8"));
    std::filesystem::remove_all(folder / "train" + ("/" + std::string(name)));
  }
  put(folder / "train/caf\xc3\xa9/x.png", png_of(6, 6, 3));
  CHECK(open_dataset(spec(folder), Split::kTrain)->info().classes == 3);
  std::filesystem::remove_all(folder / "train/caf\xc3\xa9");
  put(folder / "val/cta/c.png", png_of(6, 6, 3));
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
  put(folder / "train/cat/cut.png", cut);
  const auto lazy = open_dataset(spec(folder), Split::kTrain);  // its header is whole
  ImageU8 image;
  const auto late = error_of([&] { lazy->read(3, image); });
  CHECK(late.has("cat/cut.png: "));
  CHECK(late.has("--skip-bad-images"));
  put(folder / "train/ape/empty.jpg", {});
  put(folder / "train/cat/text.png", {'h', 'e', 'l', 'l', 'o', ' ', 'y', 'o', 'u'});
  const auto early = error_of([&] { open_dataset(spec(folder), Split::kTrain); });
  CHECK(early.kind == ErrorKind::kFormat);
  CHECK(early.has("ape/empty.jpg: the file is empty"));

  std::vector<std::string> skipped;
  const auto good =
      open_dataset(spec(folder), Split::kTrain, {.skip_bad = true, .skipped = &skipped});
  CHECK(good->size() == 3);
  REQUIRE(skipped.size() == 3);
  CHECK(skipped[0].find("empty.jpg") != std::string::npos);
  CHECK(skipped[1].find("cut.png") != std::string::npos);
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
  put(folder / "train/gnu/only.png", {'x'});
  const auto emptied = error_of(
      [&] { open_dataset(spec(folder), Split::kTrain, {.skip_bad = true, .skipped = &skipped}); });
  CHECK(emptied.has("gnu: every picture of this class is bad"));
}
