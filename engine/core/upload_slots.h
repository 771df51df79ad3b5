#pragma once

#include <cstdint>

#include "engine/core/cuda_copies.h"

namespace engine {

// Brings one array of bytes after another to the GPU while it computes: what step n + 1 needs
// travels during step n. Two slots, each of pinned memory and as much of the device's, take turns:
//
//   char* staged = slots.stage(bytes);  // fill it
//   slots.start();                      // on its way; `staged` is no longer the caller's
//   const void* there = slots.take();   // the oldest that was started
//   ...                                 // kernels that read it
//   slots.release();                    // after the last of them was launched
//
// stage() and start() may come once more before take(), release() of what is older. The backend's
// stream waits for a copy in take(), the copies' stream for the readers of a slot before it is
// overwritten; the host waits in stage() alone, until what it put there two uploads ago has left.
//
// In builds and on machines without a GPU the constructor is Error(kDevice). Calls in another order
// are Error(kInternal).
class UploadSlots {
 public:
  UploadSlots();
  ~UploadSlots();
  UploadSlots(const UploadSlots&) = delete;
  UploadSlots& operator=(const UploadSlots&) = delete;

  // Memory is taken again only for more bytes than ever before, and waited for then.
  char* stage(int64_t bytes);
  void start();
  // On the device, 256-byte aligned.
  const void* take();
  void release();
  // Uploads that were started and not taken.
  int64_t waiting() const { return started_ - taken_; }

 private:
  struct Slot {
    char* pinned = nullptr;
    void* device = nullptr;
    int64_t room = 0, bytes = 0;
    CudaEvent arrived = nullptr, read = nullptr;
  };
  Slot& slot(int64_t upload) { return slots_[upload % 2]; }
  void free() noexcept;
  static void make_room(Slot& slot, int64_t bytes);

  Slot slots_[2];
  bool staged_ = false;
  int64_t started_ = 0, taken_ = 0, released_ = 0;  // uploads so far
};

}  // namespace engine
