#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "data/binary.h"
#include "data/codec/decode_image.h"
#include "data/codec/encode_image.h"
#include "data/hash.h"
#include "data/packed/layout.h"
#include "data/packed/packed.h"
#include "data/transform/resize_area.h"
#include "data/transform/resize_pil.h"
#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

constexpr int64_t kAtOnce = 32;  // pictures in memory

struct Ready {
  std::vector<uint8_t> file;
  ImageU8 size;  // without pixels
  std::string problem;
};

void make_small(const Dataset& set, int64_t i, const PackOptions& options, Ready& out) {
  thread_local ImageU8 image, scratch, smaller;
  const std::string path = set.path(i);
  read_bytes(path, out.file);
  decode_image(out.file, path, image);
  const ImageU8* kept = &image;
  if (options.shorter > 0 && std::min(image.height, image.width) > options.shorter) {
    const Size size = small_size(image.height, image.width, options.shorter);
    resize_pil_bilinear(image, size.height, size.width, scratch, smaller);
    kept = &smaller;
    if (options.quality > 0) out.file = encode_jpeg(smaller, options.quality);
  }
  if (options.quality == 0) {
    out.file.assign(kPixelsHeading.begin(), kPixelsHeading.end());
    out.file.insert(out.file.end(), kept->pixels.begin(), kept->pixels.end());
  }
  out.size.height = kept->height;
  out.size.width = kept->width;
}

}  // namespace

std::string PackWriter::unfinished(const std::string& path) {
  const std::filesystem::path final_path(path);
  const std::string name =
      ".writing-" + final_path.filename().string() + "-" + std::to_string(::getpid());
  return (final_path.parent_path() / name).string();
}

PackWriter::PackWriter(std::string path, std::string kind, std::vector<std::string> classes)
    : path_(std::move(path)),
      unfinished_(unfinished(path_)),
      kind_(std::move(kind)),
      classes_(std::move(classes)),
      file_(unfinished_, std::ios::binary) {
  check(file_.good(), ErrorKind::kIo, path_, ": cannot write: ", std::strerror(errno));
  const std::string room(kPackHead, '\0');  // filled in by finish()
  put(room.data(), room.size());
}

PackWriter::~PackWriter() {
  std::error_code ignored;
  if (!finished_) std::filesystem::remove(unfinished_, ignored);
}

void PackWriter::put(const void* data, size_t bytes) {
  file_.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  check(file_.good(), ErrorKind::kIo, path_, ": cannot write: ", std::strerror(errno));
  at_ += static_cast<int64_t>(bytes);
}

void PackWriter::add(const std::string& name, int32_t label, const ImageU8& size,
                     const std::vector<uint8_t>& file) {
  PackedPicture picture{name,
                        label,
                        at_,
                        size.height,
                        size.width,
                        static_cast<uint32_t>(file.size()),
                        static_cast<uint32_t>(crc32_z(0, file.data(), file.size()))};
  put(file.data(), file.size());
  pictures_.push_back(std::move(picture));
}

void PackWriter::finish() {
  BinaryWriter index;
  index.text(kind_);
  index.texts(classes_);
  index.number(static_cast<uint64_t>(pictures_.size()));
  for (const PackedPicture& p : pictures_) {
    index.number(p.label);
    index.number(p.offset);
    index.number(p.bytes);
    index.number(p.crc32);
    index.number(p.height);
    index.number(p.width);
    index.text(p.name);
  }
  BinaryWriter head;
  head.number(at_);
  head.number(static_cast<uint64_t>(index.out().size()));
  head.number(hash_text(index.out()));
  put(index.out().data(), index.out().size());
  file_.seekp(0);
  file_ << kPackHeading << head.out();
  file_.close();
  check(!file_.fail(), ErrorKind::kIo, path_, ": cannot write: ", std::strerror(errno));
  std::error_code trouble;
  std::filesystem::rename(unfinished_, path_, trouble);
  check(!trouble, ErrorKind::kIo, path_, ": cannot write: ", trouble.message());
  finished_ = true;
}

void pack_set(const Dataset& set, const PackOptions& options, PackWriter& writer) {
  check(set.size() == 0 || !set.path(0).empty(), ErrorKind::kValue, set.info().kind,
        ": has no file for each picture, so it cannot be packed");
  std::vector<Ready> ready(static_cast<size_t>(kAtOnce));
  for (int64_t first = 0; first < set.size(); first += kAtOnce) {
    const int64_t count = std::min(kAtOnce, set.size() - first);
    engine::parallel_tasks(count, [&](int64_t i) {
      Ready& one = ready[static_cast<size_t>(i)];
      one.problem.clear();
      try {
        make_small(set, first + i, options, one);
      } catch (const std::exception& error) {  // must not leave a parallel region
        one.problem = error.what();
      }
    });
    for (int64_t i = 0; i < count; ++i) {
      const Ready& one = ready[static_cast<size_t>(i)];
      check(one.problem.empty(), ErrorKind::kFormat, one.problem,
            "; repair or remove it (robustmoe data check lists all)");
      writer.add(set.name(first + i), static_cast<int32_t>(set.label(first + i)), one.size,
                 one.file);
    }
  }
}

}  // namespace data
