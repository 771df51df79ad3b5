#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/core/error.h"

// Files that are either whole or not there. Whatever is being written carries a name that
// begins with kUnfinished, beside the name it will get; a kill leaves at most such a name.
namespace train {

inline constexpr std::string_view kUnfinished = ".writing-";

// Size of a file and zlib's CRC-32 of its bytes.
struct FileSum {
  int64_t bytes = 0;
  uint32_t crc32 = 0;
  bool operator==(const FileSum&) const = default;
};

// Throws Error(kIo): "PATH: cannot ACTION: <reason of the system>; <what to do>".
[[noreturn]] void fail_io(const std::string& path, const std::string& action, int error_number,
                          engine::Blame blame = engine::ErrorKind::kIo);

// Writes a file beside `path` and puts it in its place in commit(), which returns only when
// the content and the name are on the disk. Until then a file that was there is untouched.
// Destroyed without commit(), it removes what it wrote. All failures are Error(kIo).
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  // The sum is of the bytes given to write(), not of what the disk made of them.
  FileSum commit();

 private:
  std::string path_, unfinished_;
  int file_ = -1;
  FileSum sum_;
};

// A file that grows at its end, for content too large to be replaced as a whole. It is made if need
// be and cut to its first `known.bytes` bytes, whose sum the caller knows from the flush() that
// ended there; what a kill left behind them is dropped. Error(kIo) where the system refuses,
// Error(kFormat) for a file that is shorter. What is written may be cut short by a kill, so that
// whoever reads the file needs the sum of the last flush(), kept elsewhere.
class GrowingFile {
 public:
  GrowingFile(const std::string& path, const FileSum& known);
  ~GrowingFile();
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;

  void write(const void* data, int64_t bytes);
  // Returns the sum of all the file's bytes when they are on the disk.
  FileSum flush();

 private:
  std::string path_;
  int file_ = -1;
  FileSum sum_;
};

// A regular file read at any offset. Error(kIo) where the system refuses, Error(kFormat) where
// the file ends before the bytes asked for.
class ReadFile {
 public:
  explicit ReadFile(const std::string& path);
  ~ReadFile();
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;

  void read(int64_t offset, void* out, int64_t bytes) const;
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int file_ = -1;
  int64_t size_ = 0;
};

// A folder that one process at a time may hold, made if need be. It is free again when the object
// or the process ends, however it ends. Error(kIo): held by another, or it cannot be made. A file
// system without locks (some network ones) holds nothing.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int folder_ = -1;
};

FileSum write_file(const std::string& path, std::string_view content);
// The whole of a small file; one above most_bytes is Error(kFormat).
std::string read_file(const std::string& path, int64_t most_bytes = int64_t{64} << 20);
FileSum sum_file(const std::string& path);

// `sum` goes on over so many more bytes.
void add_to(FileSum& sum, const void* data, int64_t bytes);
// "123 bytes, crc32 0a1b2c3d".
std::string sum_text(const FileSum& sum);

// Where `path` is written until it is finished: the same folder, a name with kUnfinished.
std::string unfinished_path(const std::string& path);
void make_folders(const std::string& path);
// Returns when the names in a folder are on the disk.
void flush_folder(const std::string& path);
void rename_path(const std::string& from, const std::string& to);
// Gives `from` the name `to`; a folder that has this name is removed in the same instant.
void replace_folder(const std::string& from, const std::string& to);
// Deletes a folder so that its name never stands for a part of it.
void remove_folder(const std::string& path);
// Deletes what earlier processes left unfinished in a folder: names as unfinished_path() makes them
// for a NAME that begins with one of `names`. Returns how many there were. Only for a folder that
// no other process writes to.
int64_t remove_unfinished(const std::string& folder, std::span<const std::string_view> names);

}  // namespace train
