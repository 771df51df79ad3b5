#pragma once

#include <cstdint>
#include <string>

struct gzFile_s;  // zlib's; keeps its header out of here

namespace data {

// A binary file read from front to back, unpacked on the way if it is gzipped (known by its
// content, not its name). Offsets count unpacked bytes.
//
// Throws Error(kIo) where the system refuses (with its reason), Error(kFormat) for a gzip
// stream that is corrupt or ends too early.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Reads up to n bytes; fewer only where the file ends.
  int64_t read(uint8_t* out, int64_t n);
  // Reads n bytes of `what`; a file that ends before is Error(kFormat).
  void read_exactly(uint8_t* out, int64_t n, const std::string& what);
  // A file that goes on is Error(kFormat); `what` is what should have been the last.
  void expect_end(const std::string& what);

  int64_t offset() const { return offset_; }
  // No more than this many bytes can come out of the file: a bound to check a header with
  // before memory is allocated for what it promises.
  int64_t most_bytes() const;
  // "PATH: byte 12" or, of a gzipped file, "PATH: byte 12 of the unpacked data".
  std::string at(int64_t offset) const;

 private:
  std::string path_;
  gzFile_s* file_;
  int64_t file_bytes_ = 0;
  int64_t offset_ = 0;
};

}  // namespace data
