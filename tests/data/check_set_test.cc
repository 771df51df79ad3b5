#include "data/check_set.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "tests/data/temp_folder.h"
#include "tests/support/picture_files.h"

using data::PictureFacts;
using data::SameContent;
using data::Split;
using data::test::error_of;
using data::test::jpeg_of;
using data::test::pixels_of;
using data::test::png_of;
using data::test::TempFolder;

namespace {

std::vector<uint8_t> picture(int height, int seed) {
  std::vector<uint8_t> pixels = pixels_of(height, 9, 3);
  for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(pixel * 3 + seed * 17);
  return jpeg_of(pixels, height, 9, 3);
}

// 2 classes; 6 training pictures and 2 test pictures, all different, one with a channel.
void fill(const TempFolder& folder) {
  for (int i = 0; i < 3; ++i) {
    const std::string name = "/" + std::to_string(i) + ".jpg";
    folder.write("train/ape" + name, picture(8 + i, i));
    folder.write("train/cat" + name, picture(12 + i, i));
  }
  folder.remove("train/cat/2.jpg");
  folder.write("train/cat/2.png", png_of(5, 7, 1));
  folder.write("test/ape/x.jpg", picture(30, 1));
  folder.write("test/cat/y.jpg", picture(31, 1));
}

std::vector<PictureFacts> facts_of(const TempFolder& folder) {
  std::vector<PictureFacts> facts;
  for (const Split split : {Split::kTrain, Split::kTest}) {
    data::OpenOptions options;
    options.inspect = false;
    const auto set = data::open_dataset("image-folder:" + folder.path(), split, options);
    const auto more = data::read_facts(*set, data::split_name(split));
    facts.insert(facts.end(), more.begin(), more.end());
  }
  return facts;
}

const std::vector<std::string> kClasses = {"ape", "cat"};

std::vector<std::string> problems(const std::vector<PictureFacts>& facts) {
  std::vector<std::string> names;
  for (const PictureFacts& picture : facts) {
    if (!picture.problem.empty()) names.push_back(picture.split + " " + picture.name);
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

TEST_CASE("check_set: facts of every picture") {
  const TempFolder folder;
  fill(folder);
  const auto facts = facts_of(folder);
  REQUIRE(facts.size() == 8);
  CHECK(problems(facts).empty());
  CHECK(std::ranges::count_if(facts, &PictureFacts::one_channel) == 1);
  CHECK(std::ranges::count_if(facts, &PictureFacts::misnamed) == 0);
  CHECK(facts[0].name == "train/ape/0.jpg");
  CHECK(facts[0].height == 8);
  CHECK(facts[0].width == 9);
  CHECK(facts[0].bytes == static_cast<int64_t>(picture(8, 0).size()));
  CHECK(facts.back().split == "test");
  CHECK(data::find_same(facts).empty());
  folder.write("train/ape/z.jpg", png_of(6, 6, 3));
  const auto more = facts_of(folder);
  CHECK(std::ranges::count_if(more, &PictureFacts::misnamed) == 1);
  // Sets without a file for each picture.
  const auto drawn = data::open_dataset("shapes:size=16,train=20,test=10", Split::kTrain);
  const auto other = data::read_facts(*drawn, "train");
  CHECK(other[3].name == "3");
  CHECK(other[3].bytes == 16 * 16 * drawn->info().channels);
  CHECK(other[3].hash != other[4].hash);
}

TEST_CASE("check_set: the hash of a set knows content, class, name and split") {
  const TempFolder folder;
  fill(folder);
  const auto facts = facts_of(folder);
  const uint64_t hash = data::set_hash(facts, kClasses);
  auto changed = facts;
  std::ranges::reverse(changed);
  CHECK(data::set_hash(changed, kClasses) == hash);
  changed = facts;
  changed[2].label = 1 - changed[2].label;
  CHECK(data::set_hash(changed, kClasses) != hash);
  changed = facts;
  changed[2].split = "test";
  CHECK(data::set_hash(changed, kClasses) != hash);
  changed = facts;
  std::swap(changed[0].name, changed[1].name);
  CHECK(data::set_hash(changed, kClasses) != hash);
  changed = facts;
  changed.pop_back();
  CHECK(data::set_hash(changed, kClasses) != hash);
  CHECK(data::set_hash(facts, {"ape", "dog"}) != hash);
  // Every single bit of a file counts.
  std::vector<uint8_t> bytes = picture(30, 1);
  for (size_t at = 0; at < bytes.size(); at += 37) {
    bytes[at] ^= 1;
    folder.write("test/ape/x.jpg", bytes);
    bytes[at] ^= 1;
    CHECK(facts_of(folder)[6].hash != facts[6].hash);
  }
}

TEST_CASE("check_set: exactly what was damaged is found") {
  const TempFolder folder;
  fill(folder);
  const auto before = facts_of(folder);
  const std::string list = data::facts_text(before, kClasses);
  CHECK(data::compare_facts(before, kClasses, list, "f").empty());

  std::vector<uint8_t> cut = picture(8, 0);
  cut.resize(cut.size() / 2);
  folder.write("train/ape/0.jpg", cut);
  folder.write("train/ape/1.jpg", std::string());
  folder.write("train/cat/0.jpg", std::string("no picture, only text"));
  CHECK(problems(facts_of(folder)) == std::vector<std::string>{"train train/ape/0.jpg",
                                                               "train train/ape/1.jpg",
                                                               "train train/cat/0.jpg"});
  // A bit of a comment: still decodes to the same pixels.
  std::vector<uint8_t> flipped = picture(31, 1);
  const std::vector<uint8_t> comment = {0xff, 0xfe, 0, 5, 'a', 'b', 'c'};
  flipped.insert(flipped.begin() + 2, comment.begin(), comment.end());
  folder.write("test/cat/y.jpg", flipped);
  std::filesystem::rename(folder / "train/cat/1.jpg", folder / "train/ape/moved.jpg");
  const auto after = facts_of(folder);
  CHECK(problems(after).size() == 3);
  std::vector<std::string> lines = data::compare_facts(after, kClasses, list, "f");
  std::ranges::sort(lines);
  CHECK(lines == std::vector<std::string>{"test test/cat/y.jpg: other content than before",
                                          "train train/ape/0.jpg: other content than before",
                                          "train train/ape/1.jpg: other content than before",
                                          "train train/ape/moved.jpg: new",
                                          "train train/cat/0.jpg: other content than before",
                                          "train train/cat/1.jpg: missing"});
  // A pipe is no picture; nobody waits for it.
  REQUIRE(::mkfifo((folder / "train/cat/pipe.jpg").c_str(), 0600) == 0);
  CHECK(problems(facts_of(folder)).size() == 4);
  auto labels = before;
  labels[0].label = 1;
  CHECK(data::compare_facts(labels, kClasses, list, "f") ==
        std::vector<std::string>{"train train/ape/0.jpg: class ape is now cat"});

  auto odd = before;
  odd[0].name = "a\tb\nc\\d.jpg";
  const std::vector<std::string> names = {"a\tpe", "cat"};
  CHECK(data::compare_facts(odd, names, data::facts_text(odd, names), "f").empty());

  const auto refused = [&](const std::string& text) {
    return error_of([&] { data::compare_facts(before, kClasses, text, "some/list"); });
  };
  CHECK(refused("").has("some/list: does not begin with \"robustmoe set 1\""));
  CHECK(refused("robustmoe set 2\n").has("some/list: does not begin"));
  CHECK(refused("robustmoe set 1\ntrain\tape\t5\n").has("some/list: line 2: expected split"));
}

TEST_CASE("check_set: the same picture twice, under two classes, in both splits") {
  const TempFolder folder;
  fill(folder);
  folder.write("train/ape/again.jpg", picture(8, 0));
  folder.write("train/cat/ape.jpg", picture(9, 1));
  folder.write("test/cat/leak.jpg", picture(13, 1));
  const auto facts = facts_of(folder);
  const auto same = data::find_same(facts);
  REQUIRE(same.size() == 3);
  const auto names = [&](const SameContent& group) {
    std::vector<std::string> out;
    for (const size_t i : group.pictures) out.push_back(facts[i].name);
    std::ranges::sort(out);
    return out;
  };
  for (const SameContent& group : same) {
    const auto pictures = names(group);
    REQUIRE(pictures.size() == 2);
    const bool twice = pictures[1] == "train/ape/again.jpg";
    const bool two_classes = pictures[1] == "train/cat/ape.jpg";
    const bool two_splits = pictures[0] == "test/cat/leak.jpg";
    CHECK(twice + two_classes + two_splits == 1);
    CHECK(group.classes == two_classes);
    CHECK(group.splits == two_splits);
  }
}
