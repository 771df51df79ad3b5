#pragma once

#include <cstdint>

struct CUevent_st;  // what cudaEvent_t points to

// Copies to the device that go on beside what is computed there, without CUDA's headers: pinned
// memory, a stream of copies beside the backend's, and events that order the two. Defined in
// cuda_copies.cu; a CPU-only build declares these and never calls them. Error(kCuda) where one
// fails.
namespace engine {

enum class CudaQueue : uint8_t { kCompute, kCopies };  // the backend's stream, the one beside it
using CudaEvent = CUevent_st*;

void* cuda_allocate_pinned(int64_t bytes);
void cuda_free_pinned(void* data) noexcept;
CudaEvent cuda_make_event();  // reached until it is recorded
void cuda_free_event(CudaEvent event) noexcept;

// The event is reached when what was put on the queue so far has run.
void cuda_record(CudaEvent event, CudaQueue queue);
// What is put on the queue from now on runs after the event's newest record; the host waits for it.
void cuda_wait(CudaQueue queue, CudaEvent event);
void cuda_wait(CudaEvent event);
// From pinned memory, on kCopies.
void cuda_copy_beside(void* out, const void* pinned, int64_t bytes);

}  // namespace engine
