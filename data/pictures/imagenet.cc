#include "data/pictures/imagenet.h"

#include <filesystem>
#include <initializer_list>
#include <utility>

#include "data/names.h"
#include "data/pictures/folders.h"
#include "engine/core/error.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;

// What tells the two sets apart.
struct Layout {
  const char *kind, *expected;
  const char* flat;  // folder of validation pictures without class folders
  std::vector<std::string> label_files;
};

// PATH and, behind ",labels=", a file.
std::pair<std::string, std::string> path_and_labels(const std::string& text) {
  constexpr std::string_view kLabels = ",labels=";
  const size_t at = text.rfind(kLabels);
  if (at == std::string::npos) return {text, ""};
  return {text.substr(0, at), text.substr(at + kLabels.size())};
}

fs::path label_file(const Layout& layout, const fs::path& root, const std::string& given) {
  std::error_code ignored;
  if (!given.empty()) {
    check(fs::is_regular_file(given, ignored), ErrorKind::kIo, layout.kind, ": no label file \"",
          given, "\"; behind labels= stands a file");
    return given;
  }
  for (const std::string& name : layout.label_files) {
    if (fs::is_regular_file(root / name, ignored)) return root / name;
  }
  engine::fail(ErrorKind::kIo, layout.kind, ": ", (root / layout.flat).string(),
               " holds pictures without class folders, and there is none of ",
               join(layout.label_files), " in ", root.string(),
               "; name a label file: ", layout.kind, ":PATH,labels=FILE");
}

std::vector<ListedPicture> validation(const Layout& layout, const fs::path& root,
                                      const std::string& labels,
                                      const std::vector<std::string>& classes) {
  std::error_code ignored;
  check(fs::is_directory(root / "val", ignored), ErrorKind::kIo, layout.kind, ": ", root.string(),
        " has no folder val, expected ", layout.expected);
  const fs::path flat = root / layout.flat;
  const bool by_class = !fs::is_directory(flat, ignored) ||
                        (fs::equivalent(flat, root / "val") && !folders_in(flat).empty());
  if (by_class && labels.empty()) return pictures_by_class(root / "val", classes);
  return pictures_by_label_file(by_class ? root / "val" : flat, label_file(layout, root, labels),
                                classes);
}

std::unique_ptr<Dataset> open(const Layout& layout, const std::string& text, Split split,
                              const OpenOptions& options) {
  const auto [path, labels] = path_and_labels(text);
  const fs::path root = existing_folder(layout.kind, path, layout.expected);
  const bool known = !options.classes.empty();
  std::error_code ignored;
  check((known && split == Split::kTest) || fs::is_directory(root / "train", ignored),
        ErrorKind::kIo, layout.kind, ": ", path, " has no folder train, expected ",
        layout.expected);
  const auto list = [&, path = path, labels = labels] {
    Listing listing{known ? options.classes : folders_in(root / "train"), {}};
    check(!listing.classes.empty(), ErrorKind::kFormat, (root / "train").string(),
          ": no class folders, expected ", layout.expected);
    listing.pictures = split == Split::kTrain ? pictures_by_class(root / "train", listing.classes)
                                              : validation(layout, root, labels, listing.classes);
    return listing;
  };
  std::vector<fs::path> watched = {root / (split == Split::kTrain ? "train" : "val")};
  if (!known && split == Split::kTest) watched.push_back(root / "train");
  if (split == Split::kTest) {  // those that are not there, too: they may come
    for (const std::string& name : layout.label_files) watched.push_back(root / name);
    if (!labels.empty()) watched.emplace_back(labels);
  }
  return open_listed({layout.kind, text, path, split, watched}, options, list);
}

}  // namespace

std::unique_ptr<Dataset> open_imagenet(const std::string& path, Split split,
                                       const OpenOptions& options) {
  return open({"imagenet",
               "PATH/train/WNID/*.JPEG and PATH/val",
               "val",
               {"val_annotations.txt", "LOC_val_solution.csv",
                "imagenet_2012_validation_synset_labels.txt", "val.txt"}},
              path, split, options);
}

std::unique_ptr<Dataset> open_tiny_imagenet(const std::string& path, Split split,
                                            const OpenOptions& options) {
  return open({"tiny-imagenet",
               "PATH/train/WNID/images/*.JPEG, PATH/val/images/*.JPEG and "
               "PATH/val/val_annotations.txt",
               "val/images",
               {"val/val_annotations.txt"}},
              path, split, options);
}

}  // namespace data
