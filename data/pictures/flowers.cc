#include "data/pictures/flowers.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "data/codec/mat_file.h"
#include "data/pictures/folders.h"
#include "engine/core/error.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;

constexpr int64_t kClasses = 102;
constexpr const char* kLayout = "PATH/jpg/, PATH/imagelabels.mat and PATH/setid.mat";

std::string existing_file(const fs::path& path) {
  std::error_code ignored;
  check(fs::is_regular_file(path, ignored), ErrorKind::kIo, "flowers102: ", path.string(),
        " is missing, expected ", kLayout);
  return path.string();
}

// Which variables of setid.mat make the split.
std::vector<std::string> parts_of(const std::string& wanted, Split split) {
  if (split == Split::kTest) return {"tstid"};
  if (wanted.empty() || wanted == "trnid") return {"trnid"};
  check(wanted == "trnid+valid", ErrorKind::kValue, "flowers102: train=", wanted,
        ", expected train=trnid or train=trnid+valid");
  return {"trnid", "valid"};
}

std::vector<int64_t> picture_numbers(const std::string& setid, const std::string& wanted,
                                     Split split, int64_t pictures) {
  std::vector<int64_t> numbers;
  for (const std::string& part : parts_of(wanted, split)) {
    for (const int64_t number : read_mat_integers(setid, part)) {
      check(number >= 1 && number <= pictures, ErrorKind::kFormat, setid, ": variable ", part,
            " names picture ", number, ", but imagelabels.mat has labels for 1 to ", pictures);
      numbers.push_back(number);
    }
  }
  std::vector<int64_t> sorted = numbers;
  std::ranges::sort(sorted);
  const auto twice = std::ranges::adjacent_find(sorted);
  check(twice == sorted.end(), ErrorKind::kFormat, setid, ": names picture ",
        twice == sorted.end() ? 0 : *twice, " twice; download it again");
  check(!numbers.empty(), ErrorKind::kFormat, setid, ": names no pictures");
  return numbers;
}

Listing list_flowers(const fs::path& root, const std::string& label_file, const std::string& setid,
                     const std::string& wanted, Split split) {
  const std::vector<int64_t> labels = read_mat_integers(label_file, "labels");
  Listing listing;
  for (const int64_t number :
       picture_numbers(setid, wanted, split, static_cast<int64_t>(labels.size()))) {
    const int64_t label = labels[static_cast<size_t>(number - 1)];
    check(label >= 1 && label <= kClasses, ErrorKind::kFormat, label_file, ": label ", label,
          " of picture ", number, ", expected 1 to ", kClasses);
    char name[32];
    std::snprintf(name, sizeof name, "image_%05d.jpg", static_cast<int>(number));
    listing.pictures.push_back(
        {existing_file(root / "jpg" / name), static_cast<int32_t>(label - 1)});
  }
  for (int64_t c = 1; c <= kClasses; ++c) listing.classes.push_back(std::to_string(c));
  return listing;
}

}  // namespace

std::unique_ptr<Dataset> open_flowers(const std::string& text, Split split,
                                      const OpenOptions& options) {
  constexpr std::string_view kTrain = ",train=";
  const size_t at = std::min(text.rfind(kTrain), text.size());
  const std::string path = text.substr(0, at);
  const std::string wanted = at < text.size() ? text.substr(at + kTrain.size()) : "";
  const fs::path root = existing_folder("flowers102", path, kLayout);
  const std::string labels = existing_file(root / "imagelabels.mat");
  const std::string setid = existing_file(root / "setid.mat");
  return open_listed({"flowers102", text, path, split, {root / "jpg", labels, setid}}, options,
                     [&] { return list_flowers(root, labels, setid, wanted, split); });
}

}  // namespace data
