#include "tools/commands/child_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
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

pid_t start(const std::vector<std::string>& arguments, int output, int errors) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, errors, STDERR_FILENO);
  pid_t child = 0;
  const int trouble = posix_spawnp(&child, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  check(trouble != ENOENT, ErrorKind::kIo, arguments[0],
        ": there is no such program; install it (Debian: apt-get install ", arguments[0], ")");
  check(trouble == 0, ErrorKind::kIo, arguments[0], ": cannot be run: ", std::strerror(trouble));
  return child;
}

}  // namespace

ChildResult run_child(const std::vector<std::string>& arguments,
                      const std::function<void()>& tick) {
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
