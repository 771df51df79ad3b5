#include "tests/cuda_emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#include "tests/cuda_emulator/emulator.h"

#ifndef __x86_64__
#error "the CUDA emulator switches stacks on x86-64 only"
#endif

// Saves what a called function must keep (System V ABI), stores the stack pointer in *from and
// goes on where `to` was stored.
asm(R"(
.text
.globl cuda_emulator_switch
.type cuda_emulator_switch, @function
cuda_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emulator_switch, .-cuda_emulator_switch
)");
extern "C" void cuda_emulator_switch(void** from, void* to);

namespace cuda_emulator {
namespace {

constexpr size_t kStack = size_t{256} << 10;
Fiber* starting = nullptr;

#if defined(__SANITIZE_ADDRESS__)
void before_switch(void** fake, const void* bottom, size_t size) {
  __sanitizer_start_switch_fiber(fake, bottom, size);
}
void after_switch(void* fake, const void** bottom, size_t* size) {
  __sanitizer_finish_switch_fiber(fake, bottom, size);
}
#else
void before_switch(void**, const void*, size_t) {}
void after_switch(void*, const void**, size_t*) {}
#endif

}  // namespace

Fiber::~Fiber() {
  if (stack_ != nullptr) munmap(stack_, kStack);
}

void Fiber::start(void (*entry)()) {
  entry_ = entry;
  stack_ = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack_ == MAP_FAILED) die("no memory for a thread's stack");
  // The first switch pops six registers and returns into enter(), whose stack must then be as
  // after a call: 8 bytes off a multiple of 16.
  auto* top = reinterpret_cast<void**>(static_cast<char*>(stack_) + kStack);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  inside_ = top;
}

void Fiber::enter() {
  Fiber* const self = starting;
  after_switch(nullptr, &self->outside_bottom_, &self->outside_size_);
  self->entry_();
  die("a thread's function returned");
}

void Fiber::resume() {
  starting = this;
  before_switch(&fake_outside_, stack_, kStack);
  cuda_emulator_switch(&outside_, inside_);
  after_switch(fake_outside_, nullptr, nullptr);
}

void Fiber::yield() {
  before_switch(&fake_inside_, outside_bottom_, outside_size_);
  cuda_emulator_switch(&inside_, outside_);
  after_switch(fake_inside_, &outside_bottom_, &outside_size_);
}

}  // namespace cuda_emulator
