#pragma once

#include <cstdint>
#include <string>

// What the rest of the engine needs of the CUDA runtime, without its headers. Defined in
// cuda_runtime.cu; a CPU-only build declares these and never calls them.
namespace engine {

int cuda_device_count();  // 0 where there is no usable device or driver
// Which device everything runs on, 0 unless said before its first use. Error(kDevice) if there is
// no such device or another one is in use already.
void cuda_select(int device);
struct CudaDeviceFacts {
  std::string name;
  int64_t bytes = 0, free_bytes = 0;  // memory
  int major = 0, minor = 0;           // compute capability
};
CudaDeviceFacts cuda_device_facts();  // of the selected device; opens it
void* cuda_allocate(int64_t bytes);   // Error(kCuda) when it fails
void cuda_free(void* data) noexcept;
void cuda_zero(void* data, int64_t bytes);                 // on the backend's stream
void cuda_copy(void* out, const void* in, int64_t bytes);  // any direction; waits
void cuda_move(void* out, const void* in, int64_t bytes);  // device to device, on the stream
// Host to device on the backend's stream, by way of pinned memory; `in` is free at once.
void cuda_upload(void* out, const void* in, int64_t bytes);
void cuda_synchronize();

}  // namespace engine
