#include "data/input_file.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::fail;

constexpr int64_t kMostPerCall = int64_t{1} << 30;  // gzread counts in 32 bits
constexpr int64_t kMostInflation = 1040;            // deflate's limit is 1032 : 1

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  std::error_code trouble;
  file_bytes_ = static_cast<int64_t>(std::filesystem::file_size(path, trouble));
  check(!trouble, ErrorKind::kIo, path, ": cannot read: ", trouble.message());
  errno = 0;
  file_ = gzopen(path.c_str(), "rb");
  check(file_ != nullptr, ErrorKind::kIo, path,
        ": cannot open: ", errno != 0 ? std::strerror(errno) : "out of memory");
  gzbuffer(file_, 1u << 17);
}

InputFile::~InputFile() { gzclose_r(file_); }

int64_t InputFile::read(uint8_t* out, int64_t n) {
  int64_t done = 0;
  while (done < n) {
    const auto ask = static_cast<unsigned>(std::min(n - done, kMostPerCall));
    const int got = gzread(file_, out + done, ask);
    if (got > 0) done += got, offset_ += got;
    int code = Z_OK;
    const char* reason = gzerror(file_, &code);
    if (code == Z_ERRNO) fail(ErrorKind::kIo, at(offset_), ": cannot read: ", std::strerror(errno));
    if (code == Z_BUF_ERROR) {
      fail(ErrorKind::kFormat, at(offset_), ": the gzip data stops in the middle (the file has ",
           file_bytes_, " bytes); it is truncated, download it again");
    }
    if (code != Z_OK && code != Z_STREAM_END) {
      fail(ErrorKind::kFormat, at(offset_), ": the gzip data is corrupt near byte ",
           static_cast<int64_t>(gzoffset(file_)), " of the file (", reason, "); download it again");
    }
    if (got <= 0) break;
  }
  return done;
}

void InputFile::read_exactly(uint8_t* out, int64_t n, const std::string& what) {
  const int64_t got = read(out, n);
  check(got == n, ErrorKind::kFormat, at(offset_), ": the file ends after ", got, " of the ", n,
        " bytes of ", what, "; it is truncated, download it again");
}

void InputFile::expect_end(const std::string& what) {
  uint8_t extra = 0;
  const int64_t end = offset_;
  check(read(&extra, 1) == 0, ErrorKind::kFormat, at(end), ": the file goes on after ", what,
        ", where it should end; it is damaged or of another format");
}

int64_t InputFile::most_bytes() const {
  return gzdirect(file_) != 0 ? file_bytes_ : file_bytes_ * kMostInflation;
}

std::string InputFile::at(int64_t offset) const {
  return path_ + ": byte " + std::to_string(offset) +
         (gzdirect(file_) != 0 ? "" : " of the unpacked data");
}

}  // namespace data
