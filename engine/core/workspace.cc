#include "engine/core/workspace.h"

#include "engine/core/device_memory.h"

namespace engine {
namespace {

struct Slot {
  void* data = nullptr;
  int64_t size = 0;
  ~Slot() { device_free(Device::kCpu, data); }
};

}  // namespace

void* workspace_bytes(int part, int64_t bytes) {
  thread_local Slot slots[kWorkspaceParts];
  check(part >= 0 && part < kWorkspaceParts, ErrorKind::kInternal, "workspace part ", part);
  Slot& slot = slots[part];
  if (bytes > slot.size) {
    device_free(Device::kCpu, slot.data);
    slot.data = nullptr;
    slot.data = device_allocate(Device::kCpu, bytes);
    slot.size = bytes;
  }
  return slot.data;
}

}  // namespace engine
