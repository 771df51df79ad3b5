#include "data/pictures/index_cache.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "data/sample_order.h"
#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

using data::IndexRequest;
using data::PictureIndex;
using data::Split;
using data::test::png_of;
using data::test::TempFolder;

namespace {

// The cache lies in a folder of the test's own while this lives.
class OwnCache {
 public:
  explicit OwnCache(const TempFolder& folder) {
    ::setenv("ROBUSTMOE_CACHE", (folder / "cache").c_str(), 1);
  }
  ~OwnCache() { ::unsetenv("ROBUSTMOE_CACHE"); }
  OwnCache(const OwnCache&) = delete;
  OwnCache& operator=(const OwnCache&) = delete;
};

PictureIndex made_up(int64_t pictures, int64_t classes) {
  PictureIndex index;
  for (int64_t c = 0; c < classes; ++c) index.classes.push_back("n" + std::to_string(10000000 + c));
  for (int64_t i = 0; i < pictures; ++i) {
    const auto label = static_cast<int32_t>(i % classes);
    const std::string& name = index.classes[static_cast<size_t>(label)];
    index.pictures.push_back(
        {"/data/imagenet/train/" + name + "/" + name + "_" + std::to_string(i) + ".JPEG", label});
  }
  return index;
}

// 2 classes of `each` pictures, enough that their index is kept.
void fill(const TempFolder& folder, int each) {
  const auto png = png_of(2, 2, 3);
  for (const char* name : {"ape", "cat"}) {
    std::filesystem::create_directories(folder / "train/" + name);
    for (int i = 0; i < each; ++i) {
      std::ofstream(folder / "train/" + name + "/" + std::to_string(i) + ".png", std::ios::binary)
          .write(reinterpret_cast<const char*>(png.data()),
                 static_cast<std::streamsize>(png.size()));
    }
  }
}

size_t files_in(const std::string& folder) {
  std::error_code none;
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("index_cache: comes back as it was stored, and only for the same request") {
  const TempFolder folder;
  const OwnCache cache(folder);
  PictureIndex index = made_up(1000, 7);
  index.height = 375;
  index.skipped = {"a.jpg: bad", "b.jpg: worse"};
  index.skipped_paths = {"a.jpg", "b.jpg"};
  const IndexRequest request{"a key", {}};
  CHECK_FALSE(data::load_index(request));
  REQUIRE(data::store_index(request, index));
  const auto back = data::load_index(request);
  REQUIRE(back);
  CHECK(back->classes == index.classes);
  CHECK(back->skipped == index.skipped);
  CHECK(back->height == 375);
  CHECK(back->width == 0);
  REQUIRE(back->pictures.size() == 1000);
  for (size_t i = 0; i < 1000; ++i) {
    CHECK(back->pictures[i].path == index.pictures[i].path);
    CHECK(back->pictures[i].label == index.pictures[i].label);
  }
  CHECK_FALSE(data::load_index({"another key", {}}));
}

TEST_CASE("index_cache: one that is damaged or of another version is none") {
  const TempFolder folder;
  const OwnCache cache(folder);
  const IndexRequest request{"a key", {}};
  REQUIRE(data::store_index(request, made_up(20, 3)));
  const std::string path = std::filesystem::directory_iterator(folder / "cache")->path().string();
  std::ifstream in(path, std::ios::binary);
  const std::string whole(std::istreambuf_iterator<char>(in), {});
  const auto put = [&](const std::string& text) { std::ofstream(path, std::ios::binary) << text; };
  for (size_t size = 0; size < whole.size(); size += 13) {
    put(whole.substr(0, size));
    CHECK_FALSE(data::load_index(request));
  }
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 16);
    put(flipped);
    CHECK_FALSE(data::load_index(request));
  }
  put(whole);
  CHECK(data::load_index(request));
  // Nowhere to write: no index, no error.
  ::setenv("ROBUSTMOE_CACHE", "/proc/none", 1);
  CHECK_FALSE(data::store_index(request, made_up(20, 3)));
}

TEST_CASE("index_cache: a large folder is listed once, until something changes") {
  const TempFolder folder;
  const OwnCache cache(folder);
  fill(folder, 5000);
  const std::string spec = "image-folder:" + folder.path();
  const auto first = data::open_dataset(spec, Split::kTrain);
  CHECK(first->size() == 10000);
  CHECK(files_in(folder / "cache") == 1);
  const auto second = data::open_dataset(spec, Split::kTrain);
  REQUIRE(second->size() == 10000);
  CHECK(second->info().class_names == first->info().class_names);
  CHECK(second->info().height == 2);
  for (int64_t i = 0; i < 10000; i += 97) {
    CHECK(second->name(i) == first->name(i));
    CHECK(second->label(i) == first->label(i));
  }
  // It is used: a picture that was bad at once is now bad when it is read.
  const std::string victim = folder / "train/ape/17.png";
  const auto time = std::filesystem::last_write_time(folder / "train/ape");
  folder.write("train/ape/17.png", std::string("no picture"));
  std::filesystem::last_write_time(folder / "train/ape", time);
  CHECK(data::open_dataset(spec, Split::kTrain)->size() == 10000);
  // A file that comes or goes changes its folder.
  folder.write("train/cat/new.png", png_of(3, 3, 3));
  CHECK_THROWS_AS(data::open_dataset(spec, Split::kTrain), engine::Error);  // looks again
  std::filesystem::remove(victim);
  const auto third = data::open_dataset(spec, Split::kTrain);
  CHECK(third->size() == 10000);
  CHECK(third->info().height == 0);
  std::filesystem::remove(folder / "train/cat/new.png");
  CHECK(data::open_dataset(spec, Split::kTrain)->size() == 9999);
}

TEST_CASE(
    "index_cache: what comes while a set is listed, by a link, or in place of a bad picture") {
  const TempFolder folder, elsewhere;
  const OwnCache cache(folder);
  fill(folder, 5000);
  elsewhere.write("more/x.png", png_of(2, 2, 3));
  std::filesystem::create_directory_symlink(elsewhere.path(), folder / "train/dog");
  folder.write("train/cat/17.png", std::string("bad"));
  const std::string spec = "image-folder:" + folder.path();
  std::vector<std::string> skipped;
  data::OpenOptions options;
  options.skip_bad = true;
  options.skipped = &skipped;
  CHECK(data::open_dataset(spec, Split::kTrain, options)->size() == 10000);
  CHECK(skipped.size() == 1);
  skipped.clear();
  CHECK(data::open_dataset(spec, Split::kTrain, options)->size() == 10000);
  CHECK(skipped.size() == 1);  // from the index
  elsewhere.write("more/y.png", png_of(2, 2, 3));
  CHECK(data::open_dataset(spec, Split::kTrain, options)->size() == 10001);
  // Repaired in place: its folder did not change.
  {
    const auto png = png_of(2, 2, 3);
    std::ofstream(folder / "train/cat/17.png", std::ios::binary)
        .write(reinterpret_cast<const char*>(png.data()), static_cast<std::streamsize>(png.size()));
  }
  CHECK(data::open_dataset(spec, Split::kTrain, options)->size() == 10002);
  // An index is stored with what its folders looked like before they were listed.
  const IndexRequest request{"early", {folder / "train"}};
  const auto before = data::look_at(request);
  CHECK(before.size() > 3);
  folder.write("train/ape/late.png", png_of(2, 2, 3));
  REQUIRE(data::store_index(request, made_up(5, 2), before));
  CHECK_FALSE(data::load_index(request));
  REQUIRE(data::store_index(request, made_up(5, 2), data::look_at(request)));
  CHECK(data::load_index(request));
  CHECK_FALSE(data::store_index(request, made_up(5, 2)));
  // A test folder that comes takes the place of val.
  std::filesystem::create_directory(folder / "val");
  std::filesystem::create_directory_symlink(folder / "train/cat", folder / "val/cat");
  std::filesystem::create_directory_symlink(folder / "train/ape", folder / "val/ape");
  CHECK(data::open_dataset(spec, Split::kTest)->size() == 10001);
  folder.write("test/cat/1.png", png_of(2, 2, 3));
  CHECK(data::open_dataset(spec, Split::kTest)->size() == 1);
}

// Run with --no-skip: about 10 s.
TEST_CASE("index_cache: the size of ImageNet" * doctest::skip()) {
  const TempFolder folder;
  const OwnCache cache(folder);
  const IndexRequest request{"imagenet", {}};
  REQUIRE(data::store_index(request, made_up(1281167, 1000)));
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto seconds = [&](auto since) {
    return std::chrono::duration<double>(now() - since).count();
  };
  auto start = now();
  const auto index = data::load_index(request);
  REQUIRE(index);
  MESSAGE("opened in ", seconds(start), " s");
  start = now();
  data::SampleOrder order(1281167, data::SampleOrder::Kind::kShuffled, 3);
  std::vector<int64_t> straight(512), resumed(512);
  order.fill(int64_t{1281167} * 37 + 1000000, 512, straight.data());
  MESSAGE("shuffled for step 94,800 in ", seconds(start), " s");
  data::SampleOrder other(1281167, data::SampleOrder::Kind::kShuffled, 3);
  std::vector<int64_t> before(512);
  other.fill(5, 512, before.data());
  other.fill(int64_t{1281167} * 37 + 1000000, 512, resumed.data());
  CHECK(resumed == straight);
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  MESSAGE("most memory so far, two indexes: ", usage.ru_maxrss / 1024, " MiB");
}
