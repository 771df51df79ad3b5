#include "engine/core/cuda_copies.h"

#include <cuda_runtime.h>

#include "engine/core/backend.h"
#include "engine/core/cuda_check.h"

namespace engine {
namespace {

class CopyStream {
 public:
  CopyStream() {
    (void)cuda_backend();  // opens the device, and is closed after this stream
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~CopyStream() { (void)cudaStreamDestroy(stream_); }
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

cudaStream_t stream_of(CudaQueue queue) {
  if (queue == CudaQueue::kCompute) return cuda_backend().stream;
  static const CopyStream copies;
  return copies.get();
}

}  // namespace

void* cuda_allocate_pinned(int64_t bytes) {
  (void)cuda_backend();
  void* data = nullptr;
  check_cuda(cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault));
  return data;
}

void cuda_free_pinned(void* data) noexcept {
  if (data != nullptr) (void)cudaFreeHost(data);
}

CudaEvent cuda_make_event() {
  (void)cuda_backend();
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

void cuda_free_event(CudaEvent event) noexcept { (void)cudaEventDestroy(event); }

void cuda_record(CudaEvent event, CudaQueue queue) {
  check_cuda(cudaEventRecord(event, stream_of(queue)));
}

void cuda_wait(CudaQueue queue, CudaEvent event) {
  check_cuda(cudaStreamWaitEvent(stream_of(queue), event, 0));
}

void cuda_wait(CudaEvent event) { check_cuda(cudaEventSynchronize(event)); }

void cuda_copy_beside(void* out, const void* pinned, int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(out, pinned, static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                             stream_of(CudaQueue::kCopies)));
}

}  // namespace engine
