#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/cuda_emulator/cuda_runtime.h"

// CUDA's runtime functions for the emulator. There is one device.

namespace {

cudaError_t last_error = cudaSuccess;

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Absent with CUDA_VISIBLE_DEVICES="", as on a machine with a GPU.
int devices() {
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return visible != nullptr && *visible == 0 ? 0 : 1;
}

size_t device_bytes() {
  const char* const wish = std::getenv("CUDA_EMULATOR_BYTES");
  return wish != nullptr ? std::strtoull(wish, nullptr, 10) : size_t{4} << 30;
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices();
  return *count > 0 ? cudaSuccess : answer(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  return device >= 0 && device < devices() ? cudaSuccess : answer(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int) {
  *prop = {};
  std::strcpy(prop->name, "emulated on the CPU");
  prop->totalGlobalMem = device_bytes();
  prop->major = 9;
  prop->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = cuda_emulator::make_stream();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  cuda_emulator::destroy_stream(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  cuda_emulator::wait(stream);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (cuda_emulator::capturing()) return answer(cudaErrorStreamCaptureUnsupported);
  const bool fits = bytes <= device_bytes() - cuda_emulator::bytes_in_use();
  *data = fits ? cuda_emulator::allocate(bytes) : nullptr;
  return *data != nullptr ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* data) {
  cuda_emulator::wait();
  if (data == nullptr || cuda_emulator::free_memory(data)) return cudaSuccess;
  return answer(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  *data = cuda_emulator::allocate_pinned(bytes);
  return *data != nullptr ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* data) {
  cuda_emulator::wait();
  cuda_emulator::free_pinned(data);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = device_bytes();
  *free = *total - cuda_emulator::bytes_in_use();
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  if (!cuda_emulator::is_device(data)) return answer(cudaErrorInvalidValue);
  cuda_emulator::enqueue(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* out, const void* in, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  const bool from_host = !cuda_emulator::is_device(in), to_host = !cuda_emulator::is_device(out);
  if (from_host && !cuda_emulator::is_pinned(in)) {  // taken at once, as the runtime does
    const auto* bytes_in = static_cast<const char*>(in);
    cuda_emulator::enqueue(stream, [out, copy = std::vector<char>(bytes_in, bytes_in + bytes)] {
      std::memcpy(out, copy.data(), copy.size());
    });
  } else {
    cuda_emulator::enqueue(stream, [=] { std::memcpy(out, in, bytes); });
  }
  if (to_host && !cuda_emulator::is_pinned(out)) cuda_emulator::wait(stream);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = cuda_emulator::make_event();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  cuda_emulator::destroy_event(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  cuda_emulator::record(event, stream);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  cuda_emulator::wait(event);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  cuda_emulator::wait_event(stream, event);
  return cudaSuccess;
}

using GraphWork = std::vector<std::function<void()>>;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (cuda_emulator::capturing()) return answer(cudaErrorStreamCaptureUnsupported);
  cuda_emulator::begin_capture(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  if (!cuda_emulator::capturing()) return answer(cudaErrorStreamCaptureInvalidated);
  *graph = reinterpret_cast<cudaGraph_t>(new GraphWork(cuda_emulator::end_capture()));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready = reinterpret_cast<cudaGraphExec_t>(new GraphWork(*reinterpret_cast<GraphWork*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
  for (const auto& work : *reinterpret_cast<GraphWork*>(ready))
    cuda_emulator::enqueue(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<GraphWork*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  delete reinterpret_cast<GraphWork*>(ready);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t) { return "reported by the CUDA emulator"; }

cudaError_t emulated_launch_check(const cudaLaunchConfig_t& c) {
  const uint64_t threads = uint64_t{c.blockDim.x} * c.blockDim.y * c.blockDim.z;
  const bool grid = c.gridDim.x > 0 && c.gridDim.y > 0 && c.gridDim.z > 0 &&
                    c.gridDim.x <= 0x7fffffffu && c.gridDim.y <= 65535 && c.gridDim.z <= 65535;
  const bool fits = threads > 0 && threads <= 1024 && c.blockDim.z <= 64;
  return grid && fits && c.dynamicSmemBytes <= (227u << 10) ? cudaSuccess
                                                            : answer(cudaErrorInvalidValue);
}
