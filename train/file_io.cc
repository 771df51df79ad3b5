#include "train/file_io.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

namespace train {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::ErrorKind;
using engine::fail;

constexpr int64_t kMostPerCall = int64_t{1} << 30;  // read and write stop short of 2 GiB

const char* advice(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "; free some space, or choose a folder on another disk";
    case EFBIG:
      return "; raise the limit on file sizes (ulimit -f), or choose another folder";
    case EACCES:
    case EPERM:
      return "; change the permissions, or choose another folder";
    case EROFS:
      return "; choose a folder on a disk that can be written";
    case ENOTDIR:
      return "; a part of the path is a file, choose another folder";
    case ENOENT:
      return "; check the path";
    case EMFILE:
    case ENFILE:
      return "; raise the limit on open files (ulimit -n)";
    case EIO:
      return "; the disk may be failing";
    default:
      return "";
  }
}

// Calls f until no signal interrupts it.
template <class F>
auto retry(F&& f) {
  decltype(f()) result;
  do {
    result = f();
  } while (result < 0 && errno == EINTR);
  return result;
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// The path without slashes at its end, which would make its last name empty.
std::string trimmed(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

void write_all(int file, const std::string& path, const void* data, int64_t bytes, FileSum& sum) {
  const char* at = static_cast<const char*>(data);
  for (int64_t left = bytes; left > 0;) {
    const auto ask = static_cast<size_t>(std::min(left, kMostPerCall));
    const int64_t done = retry([&] { return ::write(file, at, ask); });
    if (done <= 0) fail_io(path, "write", done < 0 ? errno : EIO);
    at += done;
    left -= done;
  }
  add_to(sum, data, bytes);
}

}  // namespace

void fail_io(const std::string& path, const std::string& action, int error_number,
             engine::Blame blame) {
  fail(blame, path, ": cannot ", action, ": ", std::strerror(error_number), advice(error_number));
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), unfinished_(unfinished_path(path)) {
  file_ = retry([&] {
    return ::open(unfinished_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  });
  if (file_ < 0) fail_io(path_, "write", errno);
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(unfinished_.c_str());
}

void AtomicFile::write(const void* data, int64_t bytes) {
  write_all(file_, path_, data, bytes, sum_);
}

FileSum AtomicFile::commit() {
  if (retry([&] { return ::fsync(file_); }) < 0) fail_io(path_, "write", errno);
  // On a network disk close() is where a full disk may show.
  const int closed = ::close(file_);
  const int close_error = errno;
  file_ = -1;
  if (closed < 0 && close_error != EINTR) {
    ::unlink(unfinished_.c_str());
    fail_io(path_, "write", close_error);
  }
  if (::rename(unfinished_.c_str(), path_.c_str()) < 0) {
    const int error_number = errno;
    ::unlink(unfinished_.c_str());
    fail_io(path_, "write", error_number);
  }
  flush_folder(parent_of(path_));
  return sum_;
}

GrowingFile::GrowingFile(const std::string& path, const FileSum& known) : path_(path), sum_(known) {
  file_ = retry([&] {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
  });
  if (file_ < 0) fail_io(path_, "write", errno);
  const auto size = static_cast<int64_t>(::lseek(file_, 0, SEEK_END));
  const bool cut = size > known.bytes && retry([&] { return ::ftruncate(file_, known.bytes); }) < 0;
  const int error_number = errno;
  if (size >= known.bytes && !cut) return;
  ::close(file_);
  if (cut) fail_io(path_, "write", error_number);
  fail(ErrorKind::kFormat, path_, ": ", size, " bytes, where ", known.bytes, " were written");
}

GrowingFile::~GrowingFile() { ::close(file_); }

void GrowingFile::write(const void* data, int64_t bytes) {
  write_all(file_, path_, data, bytes, sum_);
}

FileSum GrowingFile::flush() {
  if (retry([&] { return ::fsync(file_); }) < 0) fail_io(path_, "write", errno);
  return sum_;
}

FolderLock::FolderLock(const std::string& folder) {
  make_folders(folder);
  folder_ = retry([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (folder_ < 0) fail_io(folder, "use", errno);
  if (retry([&] { return ::flock(folder_, LOCK_EX | LOCK_NB); }) == 0) return;
  const int error_number = errno;
  ::close(folder_);
  // A file system without locks must not stop anybody.
  folder_ = -1;
  check(error_number != EWOULDBLOCK, ErrorKind::kIo, folder,
        ": another run is writing here; wait for its end, or choose another --out");
}

FolderLock::~FolderLock() {
  if (folder_ >= 0) ::close(folder_);
}

ReadFile::ReadFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: a named pipe must not hang the program before it is refused.
  file_ = retry([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (file_ < 0) fail_io(path_, "read", errno);
  struct stat status {};
  const bool known = ::fstat(file_, &status) == 0;
  if (known && S_ISREG(status.st_mode)) {
    size_ = static_cast<int64_t>(status.st_size);
    return;
  }
  const int error_number = known ? EISDIR : errno;
  ::close(file_);
  if (known && !S_ISDIR(status.st_mode)) {
    fail(ErrorKind::kIo, path_, ": cannot read: not a regular file");
  }
  fail_io(path_, "read", error_number);
}

ReadFile::~ReadFile() { ::close(file_); }

void ReadFile::read(int64_t offset, void* out, int64_t bytes) const {
  char* to = static_cast<char*>(out);
  for (int64_t left = bytes; left > 0;) {
    const auto ask = static_cast<size_t>(std::min(left, kMostPerCall));
    const int64_t done = retry([&] { return ::pread(file_, to, ask, offset); });
    if (done < 0) fail_io(path_, "read", errno);
    check(done > 0, ErrorKind::kFormat, path_, ": byte ", offset, ": the file ends here, ", left,
          " bytes too early");
    to += done;
    offset += done;
    left -= done;
  }
}

FileSum write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  return file.commit();
}

std::string read_file(const std::string& path, int64_t most_bytes) {
  const ReadFile file(path);
  check(file.size() <= most_bytes, ErrorKind::kFormat, path, ": ", file.size(),
        " bytes, where at most ", most_bytes, " make sense");
  std::string content(static_cast<size_t>(file.size()), '\0');
  file.read(0, content.data(), file.size());
  return content;
}

FileSum sum_file(const std::string& path) {
  const ReadFile file(path);
  std::vector<char> block(static_cast<size_t>(std::min<int64_t>(file.size(), int64_t{1} << 20)));
  FileSum sum;
  while (sum.bytes < file.size()) {
    const int64_t n = std::min(file.size() - sum.bytes, static_cast<int64_t>(block.size()));
    file.read(sum.bytes, block.data(), n);
    add_to(sum, block.data(), n);
  }
  return sum;
}

void add_to(FileSum& sum, const void* data, int64_t bytes) {
  sum.crc32 = static_cast<uint32_t>(
      crc32_z(sum.crc32, static_cast<const Bytef*>(data), static_cast<size_t>(bytes)));
  sum.bytes += bytes;
}

std::string sum_text(const FileSum& sum) {
  char crc[9];
  std::snprintf(crc, sizeof crc, "%08x", static_cast<unsigned>(sum.crc32));
  return std::to_string(sum.bytes) + " bytes, crc32 " + crc;
}

std::string unfinished_path(const std::string& path) {
  const fs::path name = fs::path(trimmed(path)).filename();
  return (fs::path(parent_of(trimmed(path))) /
          (std::string(kUnfinished) + name.string() + "-" + std::to_string(::getpid())))
      .string();
}

void make_folders(const std::string& path) {
  std::error_code trouble;
  fs::create_directories(trimmed(path), trouble);
  if (trouble) fail_io(path, "make this folder", trouble.value());
  check(fs::is_directory(path, trouble), ErrorKind::kIo, path,
        ": cannot make this folder: a file has its name; choose another folder");
}

void flush_folder(const std::string& path) {
  const int folder =
      retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (folder < 0) fail_io(path, "open this folder", errno);
  const int flushed = retry([&] { return ::fsync(folder); });
  const int error_number = errno;
  ::close(folder);
  // EINVAL: a file system whose folders need no flushing.
  if (flushed < 0 && error_number != EINVAL) fail_io(path, "flush this folder", error_number);
}

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) < 0) fail_io(to, "give it its name", errno);
}

void replace_folder(const std::string& from, const std::string& to) {
  if (!fs::exists(fs::symlink_status(to))) return rename_path(from, to);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    std::error_code ignored;  // what is left carries an unfinished name
    fs::remove_all(from, ignored);
    return;
  }
  // A file system that cannot exchange: for an instant neither has the name.
  check(errno == EINVAL || errno == ENOSYS, ErrorKind::kIo, to,
        ": cannot replace this folder: ", std::strerror(errno));
  const std::string old = unfinished_path(trimmed(to) + "-removed");
  rename_path(trimmed(to), old);
  rename_path(from, to);
  std::error_code ignored;
  fs::remove_all(old, ignored);
}

void remove_folder(const std::string& path) {
  const std::string doomed = unfinished_path(trimmed(path) + "-removed");
  rename_path(trimmed(path), doomed);
  std::error_code ignored;  // remove_unfinished() tries again
  fs::remove_all(doomed, ignored);
}

namespace {

// Whether `file` is .writing-NAME-PID with a NAME that begins with one of `names`.
bool is_unfinished(std::string_view file, std::span<const std::string_view> names) {
  if (!file.starts_with(kUnfinished)) return false;
  file.remove_prefix(kUnfinished.size());
  const size_t dash = file.rfind('-');
  if (dash == std::string_view::npos || dash + 1 == file.size()) return false;
  const std::string_view pid = file.substr(dash + 1);
  return pid.find_first_not_of("0123456789") == std::string_view::npos &&
         std::ranges::any_of(names, [file](std::string_view n) { return file.starts_with(n); });
}

}  // namespace

int64_t remove_unfinished(const std::string& folder, std::span<const std::string_view> names) {
  std::error_code trouble;
  std::vector<fs::path> found;
  for (fs::directory_iterator it(folder, trouble), end; !trouble && it != end;
       it.increment(trouble)) {
    if (is_unfinished(it->path().filename().string(), names)) found.push_back(it->path());
  }
  if (trouble && trouble.value() != ENOENT) fail_io(folder, "list this folder", trouble.value());
  for (const fs::path& path : found) {
    fs::remove_all(path, trouble);
    if (trouble) fail_io(path.string(), "delete", trouble.value());
  }
  return static_cast<int64_t>(found.size());
}

}  // namespace train
