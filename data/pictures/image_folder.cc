#include "data/pictures/image_folder.h"

#include <filesystem>
#include <utility>

#include "data/pictures/folders.h"
#include "engine/core/error.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;

constexpr const char* kLayout = "PATH/train/CLASS/FILE and PATH/test or PATH/val";

// The first of these folders that is there; empty where none is.
fs::path one_of(const fs::path& root, std::initializer_list<const char*> names) {
  std::error_code ignored;
  for (const char* name : names) {
    if (fs::is_directory(root / name, ignored)) return root / name;
  }
  return {};
}

}  // namespace

std::unique_ptr<Dataset> open_image_folder(const std::string& path, Split split,
                                           const OpenOptions& options) {
  const fs::path root = existing_folder("image-folder", path, kLayout);
  const fs::path train = one_of(root, {"train"});
  fs::path folder = split == Split::kTrain ? train : one_of(root, {"test", "val"});
  const bool known = !options.classes.empty();
  if (known && split == Split::kTest && folder.empty() && train.empty()) folder = root;
  check(known || !train.empty(), ErrorKind::kIo, "image-folder: ", path, " has no folder train");
  check(!folder.empty(), ErrorKind::kIo, "image-folder: ", path, " has no folder ",
        split == Split::kTrain ? "train" : "test and no folder val");
  const auto list = [&] {
    Listing listing{known ? options.classes : folders_in(train), {}};
    check(!listing.classes.empty(), ErrorKind::kFormat, folder.string(),
          ": no class folders; pictures lie in PATH/train/CLASS/");
    listing.pictures = pictures_by_class(folder, listing.classes);
    return listing;
  };
  // Also those that are not there: they may come.
  std::vector<fs::path> watched = {folder};
  if (split == Split::kTest) watched.push_back(root / "test");
  if (!known && folder != train) watched.push_back(train);  // for the classes
  return open_listed({"image-folder", path, path, split, watched}, options, list);
}

}  // namespace data
