#include "data/pictures/listed_pictures.h"

#include <filesystem>
#include <utility>

#include "data/codec/decode_image.h"
#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;

class ListedPictures final : public Dataset {
 public:
  ListedPictures(Info info, std::vector<ListedPicture> pictures)
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
  const ListedPicture& at(int64_t i) const {
    check(i >= 0 && i < size(), ErrorKind::kValue, info_.kind, ": picture ", i, " of ", size());
    return pictures_[static_cast<size_t>(i)];
  }

  Info info_;
  std::vector<ListedPicture> pictures_;
};

// What is wrong with each picture, "" where nothing is; sizes go into the result's second part.
struct Inspection {
  std::vector<std::string> problems;
  std::vector<std::pair<int64_t, int64_t>> sizes;
};

Inspection inspect(const std::vector<ListedPicture>& pictures, bool decode) {
  Inspection found{std::vector<std::string>(pictures.size()), {}};
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

// Of every class that had pictures, some must be good.
void check_classes(const std::vector<std::string>& classes,
                   const std::vector<ListedPicture>& listed, const std::vector<ListedPicture>& good,
                   const std::string& kind) {
  check(!good.empty(), ErrorKind::kFormat, kind, ": every picture is bad");
  std::vector<bool> has(classes.size());
  for (const ListedPicture& picture : good) has[static_cast<size_t>(picture.label)] = true;
  for (const ListedPicture& picture : listed) {
    check(has[static_cast<size_t>(picture.label)], ErrorKind::kFormat,
          fs::path(picture.path).parent_path().string(), ": class ",
          classes[static_cast<size_t>(picture.label)],
          ": every picture of this class is bad; repair some or leave the class out");
  }
}

}  // namespace

std::unique_ptr<Dataset> open_listed(const std::string& kind, std::vector<std::string> classes,
                                     std::vector<ListedPicture> pictures,
                                     const OpenOptions& options) {
  const Inspection found = inspect(pictures, options.skip_bad);
  std::vector<ListedPicture> good;
  std::pair<int64_t, int64_t> size{-1, -1};
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (!found.problems[i].empty()) {
      check(options.skip_bad, ErrorKind::kFormat, found.problems[i],
            "; repair or remove it, or leave bad pictures out with --skip-bad-images");
      if (options.skipped != nullptr) options.skipped->push_back(found.problems[i]);
      continue;
    }
    if (size.first < 0) size = found.sizes[i];
    if (size != found.sizes[i]) size = {0, 0};
    good.push_back(pictures[i]);
  }
  check_classes(classes, pictures, good, kind);
  Info info{
      kind, 3, size.first, size.second, static_cast<int64_t>(classes.size()), std::move(classes)};
  return std::make_unique<ListedPictures>(std::move(info), std::move(good));
}

}  // namespace data
