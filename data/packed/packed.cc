#include "data/packed/packed.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "data/binary.h"
#include "data/codec/decode_image.h"
#include "data/hash.h"
#include "data/packed/layout.h"
#include "data/pictures/folders.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

constexpr const char* kAgain = "; it is damaged or cut short, pack the set again";

// A file that several threads read at places of their own.
class SharedFile {
 public:
  explicit SharedFile(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_RDONLY)) {
    check(file_ >= 0, ErrorKind::kIo, path, ": cannot be read: ", std::strerror(errno));
    struct stat status = {};
    ::fstat(file_, &status);
    size_ = int64_t{status.st_size};
  }
  ~SharedFile() { ::close(file_); }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  void read(int64_t offset, void* to, size_t bytes) const {
    auto* out = static_cast<char*>(to);
    while (bytes > 0) {
      const ssize_t got = ::pread(file_, out, bytes, offset);
      if (got < 0 && errno == EINTR) continue;
      check(got > 0, got < 0 ? ErrorKind::kIo : ErrorKind::kFormat, path_, ": byte ", offset,
            got < 0 ? std::string(": cannot be read: ") + std::strerror(errno)
                    : std::string(": the file ends here") + kAgain);
      out += got;
      offset += got;
      bytes -= static_cast<size_t>(got);
    }
  }

 private:
  std::string path_;
  int file_;
  int64_t size_ = 0;
};

struct PackIndex {
  std::vector<std::string> classes;
  std::vector<PackedPicture> pictures;
};

// The bytes of the index, checked by their hash.
std::string read_index(const SharedFile& file) {
  const std::string& path = file.path();
  std::string head(kPackHead, '\0');
  check(file.size() >= static_cast<int64_t>(kPackHead), ErrorKind::kFormat, path, ": ", file.size(),
        " bytes are no packed set", kAgain);
  file.read(0, head.data(), head.size());
  check(
      head.starts_with(kPackHeading), ErrorKind::kFormat, path, ": begins with \"",
      head.starts_with("robustmoe pack ") ? head.substr(0, kPackHeading.size()) : "something else",
      "\", expected \"", kPackHeading, "\"; pack the set again with this program");
  BinaryReader in(std::string_view(head).substr(kPackHeading.size()));
  const auto offset = in.number<int64_t>();
  const auto bytes = in.number<uint64_t>(), hash = in.number<uint64_t>();
  check(offset >= static_cast<int64_t>(kPackHead) && offset <= file.size() &&
            bytes == static_cast<uint64_t>(file.size() - offset),
        ErrorKind::kFormat, path, ": its index of ", bytes, " bytes at byte ", offset,
        " does not fit a file of ", file.size(), kAgain);
  std::string text(static_cast<size_t>(bytes), '\0');
  file.read(offset, text.data(), text.size());
  check(hash_text(text) == hash, ErrorKind::kFormat, path, ": its index has another hash", kAgain);
  return text;
}

PackIndex parse_index(const std::string& text, const SharedFile& file) {
  BinaryReader in(text);
  PackIndex index;
  in.text();  // of what kind the set was
  index.classes = in.texts();
  index.pictures.resize(in.count(40));
  const auto classes = static_cast<int32_t>(index.classes.size());
  bool fits = true;
  for (PackedPicture& p : index.pictures) {
    p.label = in.number<int32_t>();
    p.offset = in.number<int64_t>();
    p.bytes = in.number<uint32_t>();
    p.crc32 = in.number<uint32_t>();
    p.height = in.number<int64_t>();
    p.width = in.number<int64_t>();
    p.name = in.text();
    fits = fits && p.label >= 0 && p.label < classes && p.offset >= 0 &&
           p.offset <= file.size() - int64_t{p.bytes} && p.height >= 0 && p.height <= kMostPixels &&
           p.width >= 0 && p.width <= kMostPixels;
  }
  check(in.at_end() && fits && !index.pictures.empty(), ErrorKind::kFormat, file.path(),
        ": its index contradicts itself", kAgain);
  return index;
}

bool begins_pixels(const std::vector<uint8_t>& bytes) {
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())
      .starts_with(kPixelsHeading);
}

bool holds_pixels(const SharedFile& file, const PackedPicture& picture) {
  std::vector<uint8_t> head(std::min<size_t>(picture.bytes, kPixelsHeading.size()));
  file.read(picture.offset, head.data(), head.size());
  return begins_pixels(head);
}

class Packed final : public Dataset {
 public:
  Packed(Info info, std::unique_ptr<SharedFile> file, std::vector<PackedPicture> pictures,
         JpegDialect jpeg)
      : info_(std::move(info)),
        file_(std::move(file)),
        pictures_(std::move(pictures)),
        jpeg_(jpeg) {}
  const Info& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(pictures_.size()); }
  int64_t label(int64_t i) const override { return at(i).label; }
  std::string name(int64_t i) const override { return at(i).name; }
  void read(int64_t i, ImageU8& out) const override {
    thread_local std::vector<uint8_t> bytes;
    const PackedPicture& picture = at(i);
    bytes.resize(picture.bytes);
    file_->read(picture.offset, bytes.data(), bytes.size());
    check(crc32_z(0, bytes.data(), bytes.size()) == picture.crc32, ErrorKind::kFormat,
          file_->path(), ": byte ", picture.offset, ": picture ", picture.name,
          " has another checksum", kAgain);
    if (take_pixels(bytes, picture, out)) return;
    decode_image(bytes, file_->path() + ": " + picture.name, out, jpeg_);
  }

 private:
  // False where the picture is a file to be decoded.
  bool take_pixels(const std::vector<uint8_t>& bytes, const PackedPicture& picture,
                   ImageU8& out) const {
    if (!begins_pixels(bytes)) return false;
    const auto count = static_cast<int64_t>(bytes.size() - kPixelsHeading.size());
    check(picture.height > 0 && picture.width > 0 && picture.height <= count &&
              count % picture.height == 0 && count / picture.height == 3 * picture.width,
          ErrorKind::kFormat, file_->path(), ": picture ", picture.name, " has ", count,
          " bytes of pixels, which are not ", picture.height, "x", picture.width, kAgain);
    out.reshape(picture.height, picture.width, 3);
    std::copy_n(bytes.begin() + kPixelsHeading.size(), count, out.pixels.begin());
    return true;
  }
  const PackedPicture& at(int64_t i) const {
    check(i >= 0 && i < size(), ErrorKind::kValue, "packed: picture ", i, " of ", size());
    return pictures_[static_cast<size_t>(i)];
  }

  Info info_;
  std::unique_ptr<SharedFile> file_;
  std::vector<PackedPicture> pictures_;
  JpegDialect jpeg_;
};

}  // namespace

std::unique_ptr<Dataset> open_packed(const std::string& path, Split split,
                                     const OpenOptions& options) {
  const auto folder = existing_folder("packed", path, "PATH/train.pack and PATH/test.pack");
  auto file =
      std::make_unique<SharedFile>((folder / (std::string(split_name(split)) + ".pack")).string());
  PackIndex index = parse_index(read_index(*file), *file);
  Info info{"packed",
            3,
            index.pictures[0].height,
            index.pictures[0].width,
            static_cast<int64_t>(index.classes.size()),
            std::move(index.classes)};
  check(options.jpeg == JpegDialect::kAccurate || !holds_pixels(*file, index.pictures[0]),
        ErrorKind::kValue, file->path(),
        ": holds pixels of JPEG files that were decoded accurately: set data.jpeg=accurate");
  for (const PackedPicture& p : index.pictures) {
    if (p.height != info.height || p.width != info.width) info.height = info.width = 0;
  }
  return std::make_unique<Packed>(std::move(info), std::move(file), std::move(index.pictures),
                                  options.jpeg);
}

}  // namespace data
