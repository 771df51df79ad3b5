#include "data/pictures/folders.h"

#include <algorithm>
#include <utility>

#include "data/names.h"
#include "engine/core/error.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;
using Names = std::vector<std::string>;

// UTF-8 in its form, without control characters: what metadata and logs can hold.
bool is_plain_text(const std::string& text) {
  size_t more = 0;                // continuation bytes that must follow
  int least = 0x80, most = 0xBF;  // of the next one: no overlong forms, no surrogates
  for (const char c : text) {
    const int byte = static_cast<unsigned char>(c);
    if (more > 0) {
      if (byte < least || byte > most) return false;
      least = 0x80, most = 0xBF;
      --more;
    } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && (byte < 0xC2 || byte > 0xF4))) {
      return false;
    } else {
      more = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC2 ? 1 : 0;
      if (byte == 0xE0) least = 0xA0;
      if (byte == 0xED) most = 0x9F;
      if (byte == 0xF0) least = 0x90;
      if (byte == 0xF4) most = 0x8F;
    }
  }
  return more == 0;
}

bool is_one_of(const std::string& ending, const Names& endings) {
  return std::ranges::find(endings, ending) != endings.end();
}

// "0", "17": a number as it is usually written, else -1.
int64_t plain_number(const std::string& text) {
  if (text.empty() || text.size() > 9 || (text.size() > 1 && text[0] == '0')) return -1;
  int64_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return -1;
    number = 10 * number + (c - '0');
  }
  return number;
}

}  // namespace

std::string ending_of(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return ending;
}

Names folders_in(const fs::path& folder) {
  Names names;
  std::error_code trouble;
  for (fs::directory_iterator it(folder, trouble), end; !trouble && it != end;
       it.increment(trouble)) {
    const std::string name = it->path().filename().string();
    if (!it->is_directory() || name.starts_with('.')) continue;
    check(is_plain_text(name), ErrorKind::kFormat, it->path().string(),
          ": a class folder's name must be UTF-8 without control characters; rename it");
    names.push_back(name);
  }
  check(!trouble, ErrorKind::kIo, folder.string(), ": cannot be listed: ", trouble.message());
  std::sort(names.begin(), names.end());
  return names;
}

Names pictures_in(const fs::path& folder) {
  static const Names kOurs = {".jpg", ".jpeg", ".png"};
  static const Names kOthers = {".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif", ".ppm"};
  Names paths;
  std::error_code trouble;
  for (fs::recursive_directory_iterator it(folder, trouble), end; !trouble && it != end;
       it.increment(trouble)) {
    const std::string ending = ending_of(it->path());
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden && it->is_directory()) it.disable_recursion_pending();
    if (hidden || it->is_directory()) continue;
    check(!is_one_of(ending, kOthers), ErrorKind::kFormat, it->path().string(),
          ": of a format that is not read; make it JPEG or PNG");
    if (is_one_of(ending, kOurs)) paths.push_back(it->path().string());
  }
  check(!trouble, ErrorKind::kIo, folder.string(), ": cannot be listed: ", trouble.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

fs::path existing_folder(const std::string& kind, const std::string& path,
                         const std::string& expected) {
  check(!path.empty(), ErrorKind::kValue, kind, ": no folder given, expected ", kind, ":PATH");
  std::error_code ignored;
  check(fs::is_directory(path, ignored), ErrorKind::kIo, kind, ": no folder \"", path,
        "\", expected ", expected);
  return path;
}

int32_t class_of(const Names& classes, const std::string& name, const std::string& where) {
  const auto at = std::ranges::find(classes, name);
  if (at != classes.end()) return static_cast<int32_t>(at - classes.begin());
  engine::fail(ErrorKind::kFormat, where, ": a class that the training split does not have; the ",
               "nearest is ", nearest_name(name, classes));
}

std::vector<ListedPicture> pictures_by_class(const fs::path& folder, const Names& classes) {
  const Names names = folders_in(folder);
  const bool numbered = std::ranges::all_of(names, [&](const std::string& name) {
    const int64_t number = plain_number(name);
    return number >= 0 && number < static_cast<int64_t>(classes.size()) &&
           std::ranges::find(classes, name) == classes.end();
  });
  std::vector<ListedPicture> pictures;
  for (const std::string& name : names) {
    const std::string path = (folder / name).string();
    const int32_t label =
        numbered ? static_cast<int32_t>(plain_number(name)) : class_of(classes, name, path);
    const Names files = pictures_in(path);
    check(!files.empty(), ErrorKind::kFormat, path,
          ": a class without pictures (.jpg, .jpeg, .png); fill or remove the folder");
    for (const std::string& file : files) pictures.push_back({file, label});
  }
  check(!pictures.empty(), ErrorKind::kFormat, folder.string(), ": no class folders with pictures");
  return evenly(std::move(pictures));
}

std::vector<ListedPicture> evenly(std::vector<ListedPicture> by_class) {
  struct Place {
    int64_t twice, size;  // 2 * place in its class + 1, pictures of the class
    size_t at;
  };
  std::vector<Place> places(by_class.size());
  for (size_t begin = 0; begin < by_class.size();) {
    size_t end = begin;
    while (end < by_class.size() && by_class[end].label == by_class[begin].label) ++end;
    for (size_t i = begin; i < end; ++i) {
      places[i] = {static_cast<int64_t>(2 * (i - begin) + 1), static_cast<int64_t>(end - begin), i};
    }
    begin = end;
  }
  std::ranges::sort(places, [](const Place& a, const Place& b) {
    const int64_t left = a.twice * b.size, right = b.twice * a.size;
    return left != right ? left < right : a.at < b.at;
  });
  std::vector<ListedPicture> spread;
  spread.reserve(by_class.size());
  for (const Place& place : places) spread.push_back(std::move(by_class[place.at]));
  return spread;
}

}  // namespace data
