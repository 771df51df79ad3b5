#pragma once

#include <cstdint>

namespace tools {

// Threads of everything that follows; 0: all this process may use.
void use_threads(int64_t threads);

}  // namespace tools
