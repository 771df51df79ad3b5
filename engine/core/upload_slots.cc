#include "engine/core/upload_slots.h"

#include "engine/config.h"
#include "engine/core/cuda_runtime.h"
#include "engine/core/error.h"

namespace engine {

UploadSlots::UploadSlots() {
  if constexpr (kCudaEnabled) {
    try {
      for (Slot& slot : slots_) {
        slot.arrived = cuda_make_event();
        slot.read = cuda_make_event();
      }
    } catch (...) {
      free();
      throw;
    }
  } else {
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

UploadSlots::~UploadSlots() { free(); }

void UploadSlots::free() noexcept {
  if constexpr (kCudaEnabled) {
    for (Slot& slot : slots_) {
      cuda_free(slot.device);  // waits for what still reads or writes it
      cuda_free_pinned(slot.pinned);
      if (slot.arrived != nullptr) cuda_free_event(slot.arrived);
      if (slot.read != nullptr) cuda_free_event(slot.read);
      slot = {};
    }
  }
}

void UploadSlots::make_room(Slot& slot, int64_t bytes) {
  if constexpr (kCudaEnabled) {
    cuda_free(slot.device);
    cuda_free_pinned(slot.pinned);
    slot.device = slot.pinned = nullptr;
    slot.room = 0;
    slot.device = cuda_allocate(bytes);
    slot.pinned = static_cast<char*>(cuda_allocate_pinned(bytes));
    slot.room = bytes;
  }
}

char* UploadSlots::stage(int64_t bytes) {
  check(!staged_ && started_ - released_ < 2, ErrorKind::kInternal,
        "upload slots: both are in use");
  Slot& next = slot(started_);
  if constexpr (kCudaEnabled) cuda_wait(next.arrived);
  if (bytes > next.room) make_room(next, bytes);
  next.bytes = bytes;
  staged_ = true;
  return next.pinned;
}

void UploadSlots::start() {
  check(staged_, ErrorKind::kInternal, "upload slots: nothing is staged");
  const Slot& next = slot(started_);
  if constexpr (kCudaEnabled) {
    cuda_wait(CudaQueue::kCopies, next.read);
    cuda_copy_beside(next.device, next.pinned, next.bytes);
    cuda_record(next.arrived, CudaQueue::kCopies);
  }
  staged_ = false;
  ++started_;
}

const void* UploadSlots::take() {
  check(taken_ < started_ && taken_ == released_, ErrorKind::kInternal,
        "upload slots: nothing to take");
  const Slot& next = slot(taken_++);
  if constexpr (kCudaEnabled) cuda_wait(CudaQueue::kCompute, next.arrived);
  return next.device;
}

void UploadSlots::release() {
  check(released_ < taken_, ErrorKind::kInternal, "upload slots: nothing was taken");
  const Slot& last = slot(released_++);
  if constexpr (kCudaEnabled) cuda_record(last.read, CudaQueue::kCompute);
}

}  // namespace engine
