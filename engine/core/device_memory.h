#pragma once

#include <cstdint>

#include "engine/core/tensor.h"

namespace engine {

class StepArena;

// Plain memory of a device, 64-byte aligned (CPU) or as cudaMalloc gives it. Error(kIo;
// kCuda on a GPU) with the size when there is not enough; Error(kDevice) if this build has no such
// device.
void* device_allocate(Device device, int64_t bytes);
void device_free(Device device, void* data) noexcept;
void device_zero(Device device, void* data, int64_t bytes);
// Copies between any two devices; returns when the bytes have arrived.
void device_copy(Device to, void* out, Device from, const void* in, int64_t bytes);
// Copies within one device, in the order of what is being computed there; does not wait.
void device_move(Device device, void* out, const void* in, int64_t bytes);
// From the CPU to a GPU, in the order of what is being computed there; `in` may be used again as
// soon as this returns. Waits for nothing but room in a staging ring (kUploadRingBytes).
void device_upload(void* out, const void* in, int64_t bytes);
// Returns when everything that was started on the device has ended.
void device_synchronize(Device device);

// A copy of the host's bytes in memory of the arena, on its device. `host` may change at once; as
// device_upload() it does not wait.
void* to_device(StepArena& arena, const void* host, int64_t bytes);

}  // namespace engine
