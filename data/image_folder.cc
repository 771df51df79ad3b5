#include "data/image_folder.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "data/codec/decode_image.h"
#include "data/names.h"
#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;
using Names = std::vector<std::string>;

struct Picture {
  std::string path;
  int32_t label;
};

class ImageFolder final : public Dataset {
 public:
  ImageFolder(Info info, std::vector<Picture> pictures)
      : info_(std::move(info)), pictures_(std::move(pictures)) {}
  const Info& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(pictures_.size()); }
  int64_t label(int64_t i) const override { return at(i).label; }
  void read(int64_t i, ImageU8& out) const override {
    const std::string& path = at(i).path;
    try {
      decode_image(read_bytes(path), path, out);
    } catch (const engine::Error& error) {
      engine::fail(error.kind(), error.message(),
                   "; repair or remove it, or leave bad pictures out with --skip-bad-images");
    }
  }

 private:
  const Picture& at(int64_t i) const {
    check(i >= 0 && i < size(), ErrorKind::kValue, "image-folder: picture ", i, " of ", size());
    return pictures_[static_cast<size_t>(i)];
  }

  Info info_;
  std::vector<Picture> pictures_;
};

// UTF-8 in its form, without control characters: what metadata and logs can hold.
bool is_plain_text(const std::string& text) {
  size_t more = 0;  // continuation bytes that must follow
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (more > 0) {
      if ((byte & 0xC0) != 0x80) return false;
      --more;
    } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && (byte < 0xC2 || byte > 0xF4))) {
      return false;
    } else {
      more = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC2 ? 1 : 0;
    }
  }
  return more == 0;
}

// Sorted names of what is in a folder: its folders, or all files in it and below.
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

std::string ending_of(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return ending;
}

bool is_one_of(const std::string& ending, const Names& endings) {
  return std::ranges::find(endings, ending) != endings.end();
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

fs::path folder_of(const fs::path& root, Split split) {
  std::error_code ignored;
  check(fs::is_directory(root, ignored), ErrorKind::kIo, "image-folder: no folder \"",
        root.string(), "\", expected PATH/train/CLASS/FILE and PATH/test or PATH/val");
  const Names wanted = split == Split::kTrain ? Names{"train"} : Names{"test", "val"};
  for (const std::string& name : wanted) {
    if (fs::is_directory(root / name, ignored)) return root / name;
  }
  engine::fail(ErrorKind::kIo, "image-folder: ", root.string(), " has no folder ",
               split == Split::kTrain ? "train" : "test and no folder val");
}

// The first picture of each class, the second of each, ...: so that the first n of a set are of all
// classes alike.
std::vector<Picture> dealt_out(std::vector<Picture> by_class) {
  std::vector<std::pair<int64_t, size_t>> order;  // (place in its class, place in the list)
  for (size_t i = 0; i < by_class.size(); ++i) {
    const bool same = i > 0 && by_class[i].label == by_class[i - 1].label;
    order.emplace_back(same ? order.back().first + 1 : 0, i);
  }
  std::sort(order.begin(), order.end());
  std::vector<Picture> dealt;
  for (const auto& [place, i] : order) dealt.push_back(std::move(by_class[i]));
  return dealt;
}

std::vector<Picture> list_pictures(const fs::path& folder, const Names& classes, bool training) {
  std::vector<Picture> pictures;
  for (const std::string& name : folders_in(folder)) {
    const auto at = std::lower_bound(classes.begin(), classes.end(), name);
    check(at != classes.end() && *at == name, ErrorKind::kFormat, (folder / name).string(),
          ": a class that the training split does not have; the nearest is ",
          nearest_name(name, classes));
    const Names paths = pictures_in(folder / name);
    check(!paths.empty(), ErrorKind::kFormat, (folder / name).string(),
          ": a class without pictures (.jpg, .jpeg, .png); fill or remove the folder");
    for (const std::string& path : paths) {
      pictures.push_back({path, static_cast<int32_t>(at - classes.begin())});
    }
  }
  check(!pictures.empty(), ErrorKind::kFormat, folder.string(), ": no ",
        training ? "training" : "test", " pictures");
  return dealt_out(std::move(pictures));
}

// What is wrong with each picture, "" where nothing is; sizes go into the result's second part.
struct Inspection {
  Names problems;
  std::vector<std::pair<int64_t, int64_t>> sizes;
};

Inspection inspect(const std::vector<Picture>& pictures, bool decode) {
  Inspection found{Names(pictures.size()), {}};
  found.sizes.resize(pictures.size());
  const auto count = static_cast<int64_t>(pictures.size());
  engine::parallel_for(count, 16, [&](int64_t begin, int64_t end) {
    ImageU8 image;
    for (int64_t i = begin; i < end; ++i) {
      const std::string& path = pictures[static_cast<size_t>(i)].path;
      try {
        check(fs::is_regular_file(path), ErrorKind::kFormat, path,
              ": is no file that can be read, or a link to none");
        const std::vector<uint8_t> bytes = read_bytes(path);
        const ImageU8 size = read_image_header(bytes, path);
        found.sizes[static_cast<size_t>(i)] = {size.height, size.width};
        if (decode) decode_image(bytes, path, image);
      } catch (const engine::Error& error) {
        found.problems[static_cast<size_t>(i)] = error.message();
      } catch (const std::exception& error) {  // must not leave a parallel region
        found.problems[static_cast<size_t>(i)] = path + ": " + error.what();
      }
    }
  });
  return found;
}

}  // namespace

std::unique_ptr<Dataset> open_image_folder(const std::string& path, Split split,
                                           const OpenOptions& options) {
  check(!path.empty(), ErrorKind::kValue,
        "image-folder: no folder given, expected image-folder:PATH");
  const Names classes = folders_in(folder_of(path, Split::kTrain));
  const fs::path folder = folder_of(path, split);
  check(!classes.empty(), ErrorKind::kFormat, folder.string(),
        ": no class folders; pictures lie in PATH/train/CLASS/");
  const std::vector<Picture> listed = list_pictures(folder, classes, split == Split::kTrain);
  const Inspection found = inspect(listed, options.skip_bad);
  std::vector<Picture> good;
  std::pair<int64_t, int64_t> size{-1, -1};
  for (size_t i = 0; i < listed.size(); ++i) {
    if (!found.problems[i].empty()) {
      check(options.skip_bad, ErrorKind::kFormat, found.problems[i],
            "; repair or remove it, or leave bad pictures out with --skip-bad-images");
      if (options.skipped != nullptr) options.skipped->push_back(found.problems[i]);
      continue;
    }
    if (size.first < 0) size = found.sizes[i];
    if (size != found.sizes[i]) size = {0, 0};
    good.push_back(listed[i]);
  }
  check(!good.empty(), ErrorKind::kFormat, folder.string(), ": every picture is bad");
  std::vector<bool> has(classes.size());
  for (const Picture& picture : good) has[static_cast<size_t>(picture.label)] = true;
  for (const Picture& picture : listed) {
    check(has[static_cast<size_t>(picture.label)], ErrorKind::kFormat,
          (folder / classes[static_cast<size_t>(picture.label)]).string(),
          ": every picture of this class is bad; repair some or remove the folder");
  }
  Info info{"image-folder", 3, size.first, size.second, static_cast<int64_t>(classes.size()),
            classes};
  return std::make_unique<ImageFolder>(std::move(info), std::move(good));
}

}  // namespace data
