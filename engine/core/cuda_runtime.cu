#include "engine/core/cuda_runtime.h"

#include <algorithm>

#include "engine/core/backend.h"
#include "engine/core/cuda_check.h"
#include "engine/core/cuda_workspace.h"

namespace engine {
namespace {

int count_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();  // no driver is an answer, not an error for the next launch to report
  return 0;
}

// What one process holds of the device. Made on first use, so that a program which stays on the
// CPU never opens a CUDA context.
class Runtime {
 public:
  Runtime() {
    check(cuda_device_count() > 0, ErrorKind::kDevice, "there is no usable CUDA device here");
    check_cuda(cudaSetDevice(0));
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~Runtime() {
    cuda_free(workspace_);
    (void)cudaStreamDestroy(stream_);
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  cudaStream_t stream() const { return stream_; }

  void* workspace(int64_t bytes) {
    if (bytes > workspace_bytes_) {
      cuda_free(workspace_);
      workspace_ = nullptr;
      workspace_bytes_ = 0;
      const int64_t size = std::max(bytes, kCudaWorkspaceBytes);
      workspace_ = cuda_allocate(size);
      workspace_bytes_ = size;
    }
    return workspace_;
  }

 private:
  cudaStream_t stream_ = nullptr;
  void* workspace_ = nullptr;
  int64_t workspace_bytes_ = 0;
};

Runtime& runtime() {
  static Runtime instance;
  return instance;
}

}  // namespace

int cuda_device_count() {
  static const int count = count_devices();
  return count;
}

Cuda cuda_backend() { return {runtime().stream()}; }

void* cuda_workspace(int64_t bytes) { return runtime().workspace(bytes); }

void* cuda_allocate(int64_t bytes) {
  (void)runtime();
  check(bytes >= 0, ErrorKind::kInternal, "negative allocation of ", bytes, " bytes");
  void* data = nullptr;
  // An empty tensor is still a defined one, so nothing is allocated as a byte.
  const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // handled here: the next launch must not report it
    size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total));
    fail(ErrorKind::kCuda, "not enough device memory for ", bytes, " bytes: ", free, " of ", total,
         " are free");
  }
  check_cuda(status);
  return data;
}

void cuda_free(void* data) noexcept {
  // Waits for the kernels that still use it. An earlier kernel's failure shows here too; whoever
  // waits next reports it.
  if (data != nullptr) (void)cudaFree(data);
}

void cuda_zero(void* data, int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), runtime().stream()));
}

void cuda_copy(void* out, const void* in, int64_t bytes) {
  if (bytes == 0) return;
  const cudaStream_t stream = runtime().stream();
  check_cuda(cudaMemcpyAsync(out, in, static_cast<size_t>(bytes), cudaMemcpyDefault, stream));
  check_cuda(cudaStreamSynchronize(stream));
}

void cuda_synchronize() { check_cuda(cudaStreamSynchronize(runtime().stream())); }

}  // namespace engine
