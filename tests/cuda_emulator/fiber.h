#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulator {

// A function with a stack of its own that can stop in its middle. x86-64 only.
class Fiber {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void start(void (*entry)());  // runs at the first resume(); must never return
  void resume();                // from outside: runs until yield()
  void yield();                 // from inside

 private:
  static void enter();

  void* stack_ = nullptr;   // lowest address
  void* inside_ = nullptr;  // stack pointers of both sides while they are stopped
  void* outside_ = nullptr;
  void (*entry_)() = nullptr;
  // AddressSanitizer's view of both stacks.
  void* fake_inside_ = nullptr;
  void* fake_outside_ = nullptr;
  const void* outside_bottom_ = nullptr;
  size_t outside_size_ = 0;
};

}  // namespace cuda_emulator
