#pragma once

#include <cstdint>

// What the rest of the engine needs of the CUDA runtime, without its headers. Defined in
// cuda_runtime.cu; a CPU-only build declares these and never calls them.
namespace engine {

int cuda_device_count();             // 0 where there is no usable device or driver
void* cuda_allocate(int64_t bytes);  // Error(kCuda) when it fails
void cuda_free(void* data) noexcept;
void cuda_zero(void* data, int64_t bytes);                 // on the backend's stream
void cuda_copy(void* out, const void* in, int64_t bytes);  // any direction; waits
void cuda_synchronize();

}  // namespace engine
