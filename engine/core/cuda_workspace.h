#pragma once

#include <cstdint>

namespace engine {

// Scratch of the running kernel on the device, 256-byte aligned, contents undefined. There is one
// stream, so kernels run one after the other and each may use all of it; the pointer is good until
// the next call. Starts at kCudaWorkspaceBytes, grows when more is asked for and is kept; what a
// recorded step (step_replay.h) was recorded with stays that step's.
// Error(kCuda) when the device has no room.
inline constexpr int64_t kCudaWorkspaceBytes = int64_t{32} << 20;
void* cuda_workspace(int64_t bytes);

// Pinned memory that uploads pass through.
inline constexpr int64_t kUploadRingBytes = int64_t{64} << 20;

}  // namespace engine
