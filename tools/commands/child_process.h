#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tools {

struct ChildResult {
  int status = 0;              // its exit status; 128 + N for signal N
  std::string output, errors;  // the last 64 KiB of its standard output and standard error
};

// Runs a program (found through PATH) with these arguments, no shell between, nothing on its
// standard input, and waits; meanwhile `tick` is called about five times a second. It gets SIGTERM
// when this process ends before. Error(kIo) that names the program and says to install it where
// there is none.
ChildResult run_child(const std::vector<std::string>& arguments,
                      const std::function<void()>& tick = {});

}  // namespace tools
