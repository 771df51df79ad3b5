#pragma once

#include <cstdint>
#include <span>

#include "engine/core/arena.h"
#include "engine/core/device_memory.h"

namespace engine {

// A few integers of the host, such as the ids of a batch's images, where the kernels of the arena's
// device can read them: on the CPU `values` itself, on a GPU a copy in the arena. Does not wait for
// the device, and `values` may change as soon as it returns.
inline const int64_t* upload(StepArena& arena, std::span<const int64_t> values) {
  if (arena.device() == Device::kCpu) return values.data();
  return static_cast<const int64_t*>(
      to_device(arena, values.data(), static_cast<int64_t>(values.size_bytes())));
}

}  // namespace engine
