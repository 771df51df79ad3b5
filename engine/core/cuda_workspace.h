#pragma once

#include <cstdint>

namespace engine {

// Scratch of the running kernel on the device, 256-byte aligned, contents undefined. There is one
// stream, so kernels run one after the other and each may use all of it; the pointer is good until
// the next call. Starts at kCudaWorkspaceBytes, grows when more is asked for and is kept.
// Error(kCuda) when the device has no room.
inline constexpr int64_t kCudaWorkspaceBytes = int64_t{32} << 20;
void* cuda_workspace(int64_t bytes);

}  // namespace engine
