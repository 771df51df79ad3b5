#include "tools/commands/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

#include "engine/core/error.h"

namespace tools {
namespace {

using engine::check;
using engine::ErrorKind;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// A file without a name takes what the child says: a pipe nobody empties would stop it.
File nameless_file() {
  File file(std::tmpfile());
  check(file != nullptr, ErrorKind::kIo, "cannot make a temporary file: ", std::strerror(errno));
  return file;
}

std::string end_of(std::FILE* file) {
  constexpr long kMost = 1 << 16;
  std::fseek(file, 0, SEEK_END);
  std::fseek(file, std::max(0L, std::ftell(file) - kMost), SEEK_SET);
  std::string text(static_cast<size_t>(kMost), '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  return text;
}

// The child, after fork: only calls that are safe there. An error number goes to `failed`.
[[noreturn]] void become(char* const* argv, pid_t parent, int output, int errors, int failed) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // nobody waits for it any more then
  if (::getppid() != parent) ::_exit(127);
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  ::execvp(argv[0], argv);
  const int reason = errno;
  [[maybe_unused]] const ssize_t told = ::write(failed, &reason, sizeof reason);
  ::_exit(127);
}

// Which package of Debian brings a program.
std::string package_of(const std::string& program) {
  return program == "md5sum" ? "coreutils" : program;
}

pid_t start(const std::vector<std::string>& arguments, int output, int errors) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  int failed[2];
  check(::pipe2(failed, O_CLOEXEC) == 0, ErrorKind::kIo,
        "cannot make a pipe: ", std::strerror(errno));
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) become(argv.data(), parent, output, errors, failed[1]);
  int trouble = child < 0 ? errno : 0;
  ::close(failed[1]);
  if (child > 0) {
    const ssize_t got = ::read(failed[0], &trouble, sizeof trouble);
    if (got > 0) ::waitpid(child, nullptr, 0);
  }
  ::close(failed[0]);
  check(trouble != ENOENT, ErrorKind::kIo, arguments[0],
        ": there is no such program; install it (Debian: apt-get install ",
        package_of(arguments[0]), ")");
  check(trouble == 0, ErrorKind::kIo, arguments[0], ": cannot be run: ", std::strerror(trouble));
  return child;
}

// While it lives, ended children can be waited for, whatever was inherited.
class KeepChildren {
 public:
  KeepChildren() : before_(std::signal(SIGCHLD, SIG_DFL)) {}
  ~KeepChildren() { std::signal(SIGCHLD, before_); }
  KeepChildren(const KeepChildren&) = delete;
  KeepChildren& operator=(const KeepChildren&) = delete;

 private:
  void (*before_)(int);
};

}  // namespace

ChildResult run_child(const std::vector<std::string>& arguments,
                      const std::function<void()>& tick) {
  const KeepChildren keep;
  const File output = nameless_file(), errors = nameless_file();
  const pid_t child = start(arguments, fileno(output.get()), fileno(errors.get()));
  int state = 0;
  for (;;) {
    const pid_t ended = waitpid(child, &state, tick ? WNOHANG : 0);
    if (ended == child) break;
    check(ended == 0 || errno == EINTR, ErrorKind::kIo, arguments[0],
          ": cannot be waited for: ", std::strerror(errno));
    if (tick) {
      tick();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
  ChildResult result;
  result.status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  result.output = end_of(output.get());
  result.errors = end_of(errors.get());
  return result;
}

}  // namespace tools
