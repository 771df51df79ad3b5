#pragma once

#include <cstdint>

#include "engine/core/tensor.h"

namespace engine {

// Plain memory of a device, 64-byte aligned (CPU) or as cudaMalloc gives it. Error(kIo;
// kCuda on a GPU) with the size when there is not enough; Error(kDevice) if this build has no such
// device.
void* device_allocate(Device device, int64_t bytes);
void device_free(Device device, void* data) noexcept;
void device_zero(Device device, void* data, int64_t bytes);
// Copies between any two devices; returns when the bytes have arrived.
void device_copy(Device to, void* out, Device from, const void* in, int64_t bytes);

}  // namespace engine
