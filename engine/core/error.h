#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace engine {

// What kind of thing went wrong. kIo: the system refused (missing file, full disk).
// kFormat: a file's content is not what it should be.
enum class ErrorKind { kShape, kDtype, kDevice, kValue, kIo, kFormat, kCuda, kInternal };

// An error kind plus the caller's position. Converts from a bare ErrorKind, so
// check(ok, ErrorKind::kShape, ...) records the line it is written on. The
// builtins (gcc, clang, nvcc) are used because clang 14 has no source_location.
struct Blame {
  // NOLINTNEXTLINE(google-explicit-constructor)
  Blame(ErrorKind k, const char* f = __builtin_FILE(), int l = __builtin_LINE())
      : kind(k), file(f), line(l) {}
  ErrorKind kind;
  const char* file;
  int line;
};

// The one exception type of the project. message() is one line for a person;
// what() puts the source position before it.
class Error : public std::runtime_error {
 public:
  Error(const Blame& blame, const std::string& message)
      : std::runtime_error(base_name(blame.file) + ":" + std::to_string(blame.line) + ": " +
                           message),
        kind_(blame.kind),
        message_(message) {}
  ErrorKind kind() const noexcept { return kind_; }
  const std::string& message() const noexcept { return message_; }

 private:
  // The build folder's path has no place in a message.
  static std::string base_name(const std::string& path) {
    const size_t slash = path.find_last_of('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
  }
  ErrorKind kind_;
  std::string message_;
};

template <class... Parts>
[[noreturn]] void fail(Blame blame, const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(blame, message.str());
}

// Throws Error when `ok` is false. The message parts are streamed only then.
template <class... Parts>
void check(bool ok, Blame blame, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(blame, parts...);
}

}  // namespace engine
