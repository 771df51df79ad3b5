#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <utility>

#include "data/input_file.h"
#include "data/pictures/folders.h"
#include "engine/core/error.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;
using Names = std::vector<std::string>;

constexpr int64_t kLargestLabelFile = int64_t{1} << 30;

Names read_lines(const fs::path& path) {
  InputFile file(path.string());
  std::string text;
  constexpr int64_t kChunk = 1 << 20;
  for (int64_t got = kChunk; got == kChunk;) {
    const size_t before = text.size();
    check(static_cast<int64_t>(before) < kLargestLabelFile, ErrorKind::kFormat, path.string(),
          ": larger than 1 GiB, so it is no label file");
    text.resize(before + kChunk);
    got = file.read(reinterpret_cast<uint8_t*>(text.data() + before), kChunk);
    text.resize(before + static_cast<size_t>(got));
  }
  Names lines;
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);  // some editors begin UTF-8 so
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The first two words of a line, parted by blanks, tabs or commas.
std::pair<std::string, std::string> two_words(const std::string& line) {
  constexpr const char* kParts = " \t\r,";
  std::pair<std::string, std::string> words;
  const size_t first = line.find_first_not_of(kParts);
  if (first == std::string::npos) return words;
  const size_t behind = std::min(line.find_first_of(kParts, first), line.size());
  words.first = line.substr(first, behind - first);
  const size_t second = line.find_first_not_of(kParts, behind);
  if (second == std::string::npos) return words;
  const size_t end = std::min(line.find_first_of(kParts, second), line.size());
  words.second = line.substr(second, end - second);
  return words;
}

// Looks classes up by name or number, and files by name with or without ending.
class Directory {
 public:
  Directory(const Names& classes, const Names& files) : names_(classes) {
    for (size_t i = 0; i < classes.size(); ++i) {
      classes_.emplace(classes[i], static_cast<int32_t>(i));
    }
    for (size_t i = 0; i < files.size(); ++i) {
      const fs::path file = fs::path(files[i]).filename();
      files_.emplace(file.string(), i);
      files_.emplace(file.stem().string(), i);
    }
  }
  bool is_class(const std::string& name) const { return classes_.contains(name); }
  // The class of a name, or of a number in a file where none is a name.
  int32_t label(const std::string& name, bool numbers, const std::string& where) const {
    const auto found = classes_.find(name);
    if (found != classes_.end()) return found->second;
    int32_t number = 0;
    const auto [end, trouble] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (!numbers || trouble != std::errc() || end != name.data() + name.size() || number < 0) {
      return class_of(names_, name, where);  // throws
    }
    check(number < static_cast<int32_t>(names_.size()), ErrorKind::kFormat, where, ": class ",
          number, ", expected 0 to ", names_.size() - 1,
          " in the order of the training folders' names; the numbers of ImageNet's development kit "
          "are in another order, give a file that names the classes");
    return number;
  }
  size_t file(const std::string& name, const std::string& where) const {
    const auto found = files_.find(name);
    check(found != files_.end(), ErrorKind::kFormat, where, ": names ", name,
          ", but there is no such picture");
    return found->second;
  }

 private:
  const Names& names_;
  std::unordered_map<std::string, int32_t> classes_;
  std::unordered_map<std::string, size_t> files_;
};

}  // namespace

std::vector<ListedPicture> pictures_by_label_file(const fs::path& folder, const fs::path& labels,
                                                  const Names& classes) {
  const Names files = pictures_in(folder);
  check(!files.empty(), ErrorKind::kFormat, folder.string(), ": no pictures (.jpg, .jpeg, .png)");
  const Directory directory(classes, files);
  std::vector<ListedPicture> pictures;
  for (const std::string& file : files) pictures.push_back({file, -1});
  const Names lines = read_lines(labels);
  size_t next = 0;  // file, where lines are classes alone
  bool numbers = true, with_names = false;
  for (const std::string& line : lines) {
    const auto [first, second] = two_words(line);
    numbers = numbers && !directory.is_class(second.empty() ? first : second);
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto [first, second] = two_words(lines[i]);
    if (first.empty() || (i == 0 && first == "ImageId")) continue;
    const std::string where = labels.string() + ": line " + std::to_string(i + 1);
    if (next == 0 && !with_names) with_names = !second.empty();
    check(with_names == !second.empty(), ErrorKind::kFormat, where,
          with_names ? ": a class without a file name, as the lines before have"
                     : ": a file name, which the lines before do not have");
    check(!second.empty() || next < files.size(), ErrorKind::kFormat, where,
          ": more classes than the ", files.size(), " pictures of ", folder.string());
    const size_t at = second.empty() ? next++ : directory.file(first, where);
    check(pictures[at].label < 0, ErrorKind::kFormat, where, ": a second class for ",
          fs::path(files[at]).filename().string(), "; remove one");
    pictures[at].label = directory.label(second.empty() ? first : second, numbers, where);
  }
  for (const ListedPicture& picture : pictures) {
    check(picture.label >= 0, ErrorKind::kFormat, labels.string(), ": has no class for ",
          fs::path(picture.path).filename().string(), "; complete it or remove the picture");
  }
  return pictures;
}

}  // namespace data
