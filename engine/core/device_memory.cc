#include "engine/core/device_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/core/arena.h"
#include "engine/core/cuda_runtime.h"

namespace engine {
namespace {

// Memory of several large pages (2 MiB) starts on one and asks Linux for them: strided rows of
// activations otherwise miss the processor's table of pages at every row. A wish only, which
// changes no result.
void* allocate_host(int64_t bytes) {
  constexpr size_t kLine = 64, kLargePage = size_t{2} << 20;
  const bool large = static_cast<size_t>(bytes) >= 2 * kLargePage;
  const size_t unit = large ? kLargePage : kLine;
  const size_t rounded = std::max(kLine, (static_cast<size_t>(bytes) + unit - 1) / unit * unit);
  void* data = std::aligned_alloc(unit, rounded);
#ifdef __linux__
  if (large && data != nullptr) madvise(data, rounded, MADV_HUGEPAGE);
#endif
  return data;
}

}  // namespace

void* device_allocate(Device device, int64_t bytes) {
  check(bytes >= 0, ErrorKind::kInternal, "negative allocation of ", bytes, " bytes");
  if (device == Device::kCuda) {
    if constexpr (kCudaEnabled) return cuda_allocate(bytes);
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
  void* data = allocate_host(bytes);
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

void device_move(Device device, void* out, const void* in, int64_t bytes) {
  if (device == Device::kCpu) return device_copy(device, out, device, in, bytes);
  if constexpr (kCudaEnabled) {
    cuda_move(out, in, bytes);
  } else {
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

void device_upload(void* out, const void* in, int64_t bytes) {
  if constexpr (kCudaEnabled) {
    cuda_upload(out, in, bytes);
  } else {
    (void)out, (void)in, (void)bytes;
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

void device_synchronize(Device device) {
  if constexpr (kCudaEnabled) {
    if (device == Device::kCuda) cuda_synchronize();
  }
}

void* to_device(StepArena& arena, const void* host, int64_t bytes) {
  void* copy = arena.allocate(bytes);
  if (arena.device() == Device::kCpu) {
    device_copy(Device::kCpu, copy, Device::kCpu, host, bytes);
  } else {
    device_upload(copy, host, bytes);
  }
  return copy;
}

}  // namespace engine
