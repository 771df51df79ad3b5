#pragma once

#include <cstdint>
#include <memory>

namespace engine {

// Scratch of a running kernel, one per thread, grown to the largest request and kept, so
// that a warm kernel makes no allocation. A kernel asks once and must not call another
// kernel that asks while it still uses the memory; a second concurrent need takes the next
// `part` (parts are independent slots).
inline constexpr int kWorkspaceParts = 4;
void* workspace_bytes(int part, int64_t bytes);

template <class T>
T* workspace(int part, int64_t count) {
  return static_cast<T*>(workspace_bytes(part, count * static_cast<int64_t>(sizeof(T))));
}

}  // namespace engine
