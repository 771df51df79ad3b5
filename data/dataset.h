#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace data {

enum class Split { kTrain, kTest };

// "train" or "test".
const char* split_name(Split split);

// What a model must know before it can be built for a data set.
struct Info {
  std::string kind;                                          // as in the spec: "cifar10"
  int64_t channels = 0, height = 0, width = 0, classes = 0;  // sizes are 0 where pictures differ
  std::vector<std::string> class_names;                      // (classes)
};

// One picture as stored: 8 bits a channel, rows from top to bottom, channels interleaved.
// Reused from read to read, so that a warm loader does not allocate.
struct ImageU8 {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;  // (height, width, channels)

  void reshape(int64_t h, int64_t w, int64_t c) {
    height = h, width = w, channels = c;
    pixels.resize(static_cast<size_t>(h * w * c));
  }
  const uint8_t* at(int64_t y, int64_t x) const {
    return pixels.data() + (y * width + x) * channels;
  }
  uint8_t* at(int64_t y, int64_t x) { return pixels.data() + (y * width + x) * channels; }
};

// A labelled set of pictures, all of the size that info() says unless that is 0. Everything is
// const and may be called from several threads at once. An index outside [0, size()) is
// Error(kValue).
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual const Info& info() const = 0;
  virtual int64_t size() const = 0;
  virtual int64_t label(int64_t i) const = 0;  // in [0, classes)
  virtual void read(int64_t i, ImageU8& out) const = 0;
  // What picture i is called within the set: its file below the set's folder, else its number.
  virtual std::string name(int64_t i) const { return std::to_string(i); }
  // The file that holds picture i alone, or empty.
  virtual std::string path(int64_t /*i*/) const { return ""; }
  // Which part of picture i each pixel belongs to, (height, width): 0 background, 1 edge,
  // 2 shape. False, and `out` untouched, where the set does not know.
  virtual bool parts(int64_t /*i*/, std::vector<uint8_t>& /*out*/) const { return false; }
};

// Which of two usual ways JPEG files are decoded (codec/decode_jpeg.h).
enum class JpegDialect : uint8_t { kAccurate, kFast };

struct OpenOptions {
  JpegDialect jpeg = JpegDialect::kAccurate;
  bool inspect = true;                          // look at every picture file's header now
  bool skip_bad = false;                        // leave pictures out that cannot be read
  std::vector<std::string>* skipped = nullptr;  // gets a line for each of them
  // The classes of a model, in its order, which labels then count; empty: those of the set. A class
  // that is not among them is an error; sets and models without names of classes go by number.
  std::vector<std::string> classes = {};
};

// Opens one split of the set that `spec`, "KIND:PATH", names. The kinds are in a table in
// dataset.cc; files are read to memory and checked here, once; those of an image folder are only
// looked at (image_folder.h).
//
// Throws Error(kValue) for an unknown kind (with the nearest valid name and the list) or a
// wrong option, Error(kIo) for a missing file, Error(kFormat) for a file that is not what it
// should be, with its name and the byte offset.
std::unique_ptr<Dataset> open_dataset(const std::string& spec, Split split,
                                      const OpenOptions& options = {});

// CRC-32 over sizes, labels and pixels of 64 pictures spread evenly over the first `images`: to
// notice that a set is not the one it was.
uint32_t sample_crc32(const Dataset& dataset, int64_t images);

}  // namespace data
