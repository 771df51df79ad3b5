#include "engine/core/device_memory.h"

#include <cstdlib>
#include <cstring>

#include "engine/core/cuda_runtime.h"

namespace engine {

void* device_allocate(Device device, int64_t bytes) {
  check(bytes >= 0, ErrorKind::kInternal, "negative allocation of ", bytes, " bytes");
  if (device == Device::kCuda) {
    if constexpr (kCudaEnabled) return cuda_allocate(bytes);
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
  const size_t rounded = (static_cast<size_t>(bytes) + 63) / 64 * 64;
  void* data = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
  check(data != nullptr, ErrorKind::kIo, "not enough memory for ", bytes, " bytes");
  return data;
}

void device_free(Device device, void* data) noexcept {
  if (device == Device::kCuda) {
    if constexpr (kCudaEnabled) cuda_free(data);
    return;
  }
  std::free(data);
}

void device_zero(Device device, void* data, int64_t bytes) {
  if (bytes == 0) return;
  if (device == Device::kCpu) {
    std::memset(data, 0, static_cast<size_t>(bytes));
    return;
  }
  if constexpr (kCudaEnabled) {
    cuda_zero(data, bytes);
  } else {
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

void device_copy(Device to, void* out, Device from, const void* in, int64_t bytes) {
  if (bytes == 0) return;
  if (to == Device::kCpu && from == Device::kCpu) {
    std::memcpy(out, in, static_cast<size_t>(bytes));
    return;
  }
  if constexpr (kCudaEnabled) {
    cuda_copy(out, in, bytes);
  } else {
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

}  // namespace engine
