#include "data/pictures/listed_pictures.h"

#include <filesystem>
#include <utility>

#include "data/codec/decode_image.h"
#include "data/pictures/index_cache.h"
#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;

constexpr size_t kLargeSet = 10000;  // pictures, from which on an index is kept

class ListedPictures final : public Dataset {
 public:
  ListedPictures(Info info, std::string root, std::vector<ListedPicture> pictures, JpegDialect jpeg)
      : info_(std::move(info)),
        root_(std::move(root)),
        pictures_(std::move(pictures)),
        jpeg_(jpeg) {}
  const Info& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(pictures_.size()); }
  int64_t label(int64_t i) const override { return at(i).label; }
  std::string path(int64_t i) const override { return at(i).path; }
  std::string name(int64_t i) const override {
    return fs::path(at(i).path).lexically_relative(root_).generic_string();
  }
  void read(int64_t i, ImageU8& out) const override {
    thread_local std::vector<uint8_t> bytes;
    const std::string& path = at(i).path;
    try {
      read_bytes(path, bytes);
      decode_image(bytes, path, out, jpeg_);
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
  std::string root_;
  std::vector<ListedPicture> pictures_;
  JpegDialect jpeg_;
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
    std::vector<uint8_t> bytes;
    for (int64_t i = begin; i < end; ++i) {
      const std::string& path = pictures[static_cast<size_t>(i)].path;
      try {
        check(fs::is_regular_file(path), ErrorKind::kFormat, path,
              ": is no file that can be read, or a link to none");
        read_bytes(path, bytes);
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

// Looks at every picture of a listing.
PictureIndex make_index(Listing listing, const std::string& kind, const OpenOptions& options) {
  const Inspection found = inspect(listing.pictures, options.skip_bad);
  PictureIndex index;
  index.height = index.width = -1;
  for (size_t i = 0; i < listing.pictures.size(); ++i) {
    if (!found.problems[i].empty()) {
      check(options.skip_bad, ErrorKind::kFormat, found.problems[i],
            "; repair or remove it, or leave bad pictures out with --skip-bad-images");
      index.skipped.push_back(found.problems[i]);
      index.skipped_paths.push_back(listing.pictures[i].path);
      continue;
    }
    const auto [height, width] = found.sizes[i];
    const bool first = index.pictures.empty(),
               same = index.height == height && index.width == width;
    index.height = first || same ? height : 0;
    index.width = first || same ? width : 0;
    index.pictures.push_back(listing.pictures[i]);
  }
  check_classes(listing.classes, listing.pictures, index.pictures, kind);
  index.classes = std::move(listing.classes);
  return index;
}

// Everything that decides about an index.
IndexRequest index_request(const ListRequest& request, const OpenOptions& options) {
  std::error_code ignored;
  std::string key = request.kind + "\n" + request.spec + "\n" +
                    fs::absolute(request.root, ignored).string() + "\n" +
                    split_name(request.split) + (options.skip_bad ? "\nskip bad\n" : "\n");
  for (const std::string& name : options.classes) key += name + "\n";
  return {key, request.watched};
}

}  // namespace

std::unique_ptr<Dataset> open_listed(const ListRequest& request, const OpenOptions& options,
                                     const std::function<Listing()>& list) {
  PictureIndex index;
  if (!options.inspect) {
    Listing listing = list();
    index.classes = std::move(listing.classes);
    index.pictures = std::move(listing.pictures);
  } else {
    const IndexRequest wanted = index_request(request, options);
    if (auto stored = load_index(wanted)) {
      index = std::move(*stored);
    } else {
      const std::vector<Seen> before = look_at(wanted);
      index = make_index(list(), request.kind, options);
      if (index.pictures.size() >= kLargeSet) store_index(wanted, index, before);
    }
    if (options.skipped != nullptr) *options.skipped = index.skipped;
  }
  Info info{request.kind,
            3,
            index.height,
            index.width,
            static_cast<int64_t>(index.classes.size()),
            std::move(index.classes)};
  return std::make_unique<ListedPictures>(std::move(info), request.root, std::move(index.pictures),
                                          options.jpeg);
}

}  // namespace data
