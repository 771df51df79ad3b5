#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdio>
#include <string>
#include <vector>

namespace tools::test {

struct Result {
  int status = -1;
  std::string out;
};

// Runs a command line of the shell; `out` is what it writes to standard output.
inline Result shell(const std::string& command) {
  Result result;
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    result.out.append(buffer, n);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  return result;
}

// Runs our program; put 2>&1 at the end for both streams.
inline Result run(const std::string& arguments) {
  return shell(std::string(ROBUSTMOE_PROGRAM) + " " + arguments);
}

inline bool one_line(const std::string& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

// The program says one line that holds every part, and ends with this exit code.
inline void check_fails(const std::string& arguments, int status,
                        const std::vector<std::string>& parts) {
  CAPTURE(arguments);
  const Result both = run(arguments + " 2>&1");
  CAPTURE(both.out);
  CHECK(both.status == status);
  CHECK(one_line(both.out));
  for (const std::string& part : parts) {
    CHECK_MESSAGE(both.out.find(part) != std::string::npos, part);
  }
}

}  // namespace tools::test
