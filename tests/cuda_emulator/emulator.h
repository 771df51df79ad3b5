#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

// CUDA's execution model on one processor, so that kernels can be tested where there is no GPU:
// every thread of every block runs, __syncthreads() and warp shuffles are real meeting points of
// fibers, device memory is out of the host's reach except while kernels run, and what is put on a
// stream happens when somebody waits for it (streams.h). The headers beside this one carry the
// names of the CUDA toolkit's; a build with ROBUSTMOE_CUDA=EMULATED compiles the .cu files against
// them with the host's compiler. It says nothing about a GPU's speed, its rounding in exp and its
// kind, or what nvcc accepts.
namespace cuda_emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  // NOLINTNEXTLINE(google-explicit-constructor): a launch may say a number
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Runs body() with device memory open. Aborts with one line where device memory was written beyond
// an allocation.
void with_device_memory(const std::function<void()>& body);

// Runs body() once for each thread of each block, as fibers. Order of the threads between two
// meeting points: as CUDA_EMULATOR_ORDER says, "forward" (default), "reverse" or "shuffle".
void run_grid(Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& body);

// Meeting points of the running thread.
void sync_block();
void sync_warp();
unsigned lane();  // 0 ... 31
// Every lane of the warp gives `bytes` bytes and gets those of lane `from`.
void exchange(const void* mine, void* theirs, size_t bytes, unsigned from);

// Shared memory whose size the launch named.
void* dynamic_shared();

void* allocate(size_t bytes);  // null when there is no room (256 GiB)
bool free_memory(void* data);  // false if it was not allocated
void* allocate_pinned(size_t bytes);
void free_pinned(void* data);
bool is_device(const void* data);
bool is_pinned(const void* data);
size_t bytes_in_use();

[[noreturn]] void die(const char* message);

}  // namespace cuda_emulator
