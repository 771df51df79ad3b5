#pragma once

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

// Sets packed into one file a split: pictures made small once, and a million files no more.
//
// A file: "robustmoe pack 1", offset, size and hash of the index (u64 each), the pictures, each a
// whole JPEG or PNG file or "pixels: " and its (height, width, 3) bytes, and the index: kind, class
// names, and of each picture label, offset, bytes, CRC-32, height, width and name (data/binary.h).
namespace data {

struct PackedPicture {
  std::string name;
  int32_t label = 0;
  int64_t offset = 0, height = 0, width = 0;
  uint32_t bytes = 0, crc32 = 0;
};

// Writes such a file under another name, which becomes the file's in finish(): nothing half-written
// is ever there. Error(kIo).
class PackWriter {
 public:
  PackWriter(std::string path, std::string kind, std::vector<std::string> classes);
  ~PackWriter();  // removes what was not finished
  PackWriter(const PackWriter&) = delete;
  PackWriter& operator=(const PackWriter&) = delete;

  void add(const std::string& name, int32_t label, const ImageU8& size,
           const std::vector<uint8_t>& file);
  void finish();
  int64_t bytes() const { return at_; }

 private:
  // As train/file_io.h names what is not finished yet.
  static std::string unfinished(const std::string& path);
  void put(const void* data, size_t bytes);

  std::string path_, unfinished_, kind_;
  std::vector<std::string> classes_;
  std::vector<PackedPicture> pictures_;
  std::ofstream file_;
  int64_t at_ = 0;
  bool finished_ = false;
};

// How pictures become smaller: the shorter side `shorter` pixels by Pillow's antialiased bilinear
// resize, then JPEG of `quality`. Smaller ones, and all where shorter is 0, are kept byte for byte.
// quality 0: pixels of all, JPEG files decoded accurately; several times as large, and the fastest
// to read.
struct PackOptions {
  int64_t shorter = 256;
  int quality = 90;
};

// Packs a set of picture files; all threads. Error as its pictures', Error(kValue) for a set
// without files.
void pack_set(const Dataset& set, const PackOptions& options, PackWriter& writer);

// packed:FOLDER: train.pack and test.pack, in the order in which they were packed. The index is
// checked when it is opened, each picture by its CRC-32 when it is read. Error(kIo) for a missing
// file, Error(kFormat) for one that is cut short, damaged or of another version, Error(kValue) for
// pixels where options.jpeg is fast.
std::unique_ptr<Dataset> open_packed(const std::string& path, Split split,
                                     const OpenOptions& options);

}  // namespace data
