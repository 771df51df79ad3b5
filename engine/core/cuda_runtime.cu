#include "engine/core/cuda_runtime.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/core/backend.h"
#include "engine/core/cuda_check.h"
#include "engine/core/cuda_devices.h"
#include "engine/core/cuda_recording.h"
#include "engine/core/cuda_workspace.h"

namespace engine {
namespace {

int count_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();  // no driver is an answer, not an error for the next launch to report
  return 0;
}

int selected_device = 0;
bool opened = false;
bool recording = false;

void not_while_recording(const char* what) {
  check(!recording, ErrorKind::kInternal, "a recorded step cannot ", what);
}

// Why the driver would not give us a device, in words.
[[noreturn]] void no_device(cudaError_t status) {
  if (status == cudaErrorInsufficientDriver) {
    fail(ErrorKind::kDevice,
         "the NVIDIA driver is too old for the CUDA runtime of this program: "
         "update the driver, or use --device cpu");
  }
  fail(ErrorKind::kDevice, "there is no usable CUDA device here (", cudaGetErrorString(status),
       "): use --device cpu");
}

__global__ void probe_kernel() {}

// Error(kDevice) where the program carries no code that the device can run.
void check_code(cudaStream_t stream, int device) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.stream = stream;
  const cudaError_t status = cudaLaunchKernelEx(&config, probe_kernel);
  if (status != cudaErrorNoKernelImageForDevice) return check_cuda(status);
  cudaDeviceProp prop;
  check_cuda(cudaGetDeviceProperties(&prop, device));
  fail(ErrorKind::kDevice, "this program has no code for ", prop.name, ", compute capability ",
       prop.major, ".", prop.minor, ": build it with -DCMAKE_CUDA_ARCHITECTURES=native there");
}

// What one process holds of the device. Made on first use, so that a program which stays on the
// CPU never opens a CUDA context.
class Runtime {
 public:
  Runtime() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (status != cudaSuccess || count == 0) no_device(status);
    check(selected_device < count, ErrorKind::kDevice, "there is no CUDA device ", selected_device,
          " here, only ", count, ", counted from 0");
    opened = true;
    check_cuda(cudaSetDevice(selected_device));
    const cudaError_t opening = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    check(opening != cudaErrorDevicesUnavailable, ErrorKind::kDevice, "CUDA device ",
          selected_device, " is held by another process");
    check_cuda(opening);
    check_code(stream_, selected_device);
    for (cudaEvent_t& event : uploaded_) {
      check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
  }
  ~Runtime() {
    for (const cudaEvent_t event : uploaded_) (void)cudaEventDestroy(event);
    (void)cudaFreeHost(ring_);
    for (void* data : outgrown_) cuda_free(data);
    cuda_free(workspace_);
    (void)cudaStreamDestroy(stream_);
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  cudaStream_t stream() const { return stream_; }
  void keep_workspaces() { recorded_ = true; }

  void* workspace(int64_t bytes) {
    if (bytes > workspace_bytes_) {
      not_while_recording("enlarge the workspace");
      // Recorded steps go on using the one they were recorded with.
      recorded_ ? outgrown_.push_back(workspace_) : cuda_free(workspace_);
      workspace_ = nullptr;
      workspace_bytes_ = 0;
      const int64_t size = std::max(bytes, kCudaWorkspaceBytes);
      workspace_ = cuda_allocate(size);
      workspace_bytes_ = size;
    }
    return workspace_;
  }

  // Bytes pass through a ring of kUploadParts parts; a part is used again when what was copied
  // out of it has arrived.
  void upload(void* out, const void* in, int64_t bytes) {
    if (ring_ == nullptr) {
      check_cuda(
          cudaHostAlloc(reinterpret_cast<void**>(&ring_), kUploadRingBytes, cudaHostAllocDefault));
    }
    constexpr int64_t kPart = kUploadRingBytes / kUploadParts;
    for (int64_t at = 0; at < bytes;) {
      const int64_t count = std::min(bytes - at, kPart - ring_used_);
      if (ring_used_ == 0) check_cuda(cudaEventSynchronize(uploaded_[ring_part_]));
      char* staged = ring_ + ring_part_ * kPart + ring_used_;
      std::memcpy(staged, static_cast<const char*>(in) + at, static_cast<size_t>(count));
      check_cuda(cudaMemcpyAsync(static_cast<char*>(out) + at, staged, static_cast<size_t>(count),
                                 cudaMemcpyHostToDevice, stream_));
      at += count;
      ring_used_ = std::min(kPart, (ring_used_ + count + 15) / 16 * 16);
      if (ring_used_ < kPart) continue;
      check_cuda(cudaEventRecord(uploaded_[ring_part_], stream_));
      ring_part_ = (ring_part_ + 1) % kUploadParts;
      ring_used_ = 0;
    }
  }

 private:
  static constexpr int64_t kUploadParts = 4;

  cudaStream_t stream_ = nullptr;
  char* ring_ = nullptr;  // pinned
  int64_t ring_part_ = 0, ring_used_ = 0;
  cudaEvent_t uploaded_[kUploadParts] = {};
  void* workspace_ = nullptr;
  int64_t workspace_bytes_ = 0;
  bool recorded_ = false;
  std::vector<void*> outgrown_;
};

Runtime& runtime() {
  static Runtime instance;
  return instance;
}

}  // namespace

CudaRecording::CudaRecording() {
  recording = true;
  runtime().keep_workspaces();
}
CudaRecording::~CudaRecording() { recording = false; }

int cuda_device_count() {
  static const int count = count_devices();
  return count;
}

void cuda_select(int device) {
  check(!opened || device == selected_device, ErrorKind::kDevice, "CUDA device ", selected_device,
        " is in use already");
  selected_device = device;
}

CudaDeviceFacts cuda_device_facts() {
  (void)runtime();
  cudaDeviceProp prop;
  check_cuda(cudaGetDeviceProperties(&prop, selected_device));
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total));
  return {prop.name, static_cast<int64_t>(total), static_cast<int64_t>(free), prop.major,
          prop.minor};
}

std::vector<CudaDevice> cuda_devices() {
  std::vector<CudaDevice> devices;
  for (int d = 0; d < count_devices(); ++d) {
    cudaDeviceProp prop;
    check_cuda(cudaGetDeviceProperties(&prop, d));
    cudaError_t status = cudaSetDevice(d);
    if (status == cudaSuccess) {
      cudaLaunchConfig_t config{};
      config.gridDim = config.blockDim = dim3(1);
      status = cudaLaunchKernelEx(&config, probe_kernel);
    }
    (void)cudaGetLastError();  // an answer, not an error for the next launch to report
    const bool no_code = status == cudaErrorNoKernelImageForDevice;
    devices.push_back({prop.name, static_cast<int64_t>(prop.totalGlobalMem), prop.major, prop.minor,
                       !no_code,
                       status == cudaSuccess || no_code ? "" : cudaGetErrorString(status)});
  }
  if (!devices.empty()) (void)cudaSetDevice(selected_device);
  return devices;
}

Cuda cuda_backend() { return {runtime().stream()}; }

void* cuda_workspace(int64_t bytes) { return runtime().workspace(bytes); }

void* cuda_allocate(int64_t bytes) {
  (void)runtime();
  not_while_recording("take device memory");
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
  not_while_recording("wait for a copy");
  const cudaStream_t stream = runtime().stream();
  check_cuda(cudaMemcpyAsync(out, in, static_cast<size_t>(bytes), cudaMemcpyDefault, stream));
  check_cuda(cudaStreamSynchronize(stream));
}

void cuda_move(void* out, const void* in, int64_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(out, in, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                             runtime().stream()));
}

void cuda_upload(void* out, const void* in, int64_t bytes) {
  not_while_recording("copy from the host");
  runtime().upload(out, in, bytes);
}

void cuda_synchronize() {
  not_while_recording("wait for the device");
  check_cuda(cudaStreamSynchronize(runtime().stream()));
}

}  // namespace engine
