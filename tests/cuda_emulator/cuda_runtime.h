#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_emulator/emulator.h"
#include "tests/cuda_emulator/streams.h"

// The part of CUDA's language and runtime that our kernels use, for the emulator (emulator.h). Its
// keywords (__global__, __shared__, ...) are defined by third_party/cuda_emulated.cmake.

using dim3 = cuda_emulator::Dim3;
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct CUstream_st;
using cudaStream_t = CUstream_st*;
struct CUevent_st;
using cudaEvent_t = CUevent_st*;

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2,
                          cudaHostAllocDefault = 0;

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* out, const void* in, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
struct CUgraph_st;
using cudaGraph_t = CUgraph_st*;
struct CUgraphExec_st;
using cudaGraphExec_t = CUgraphExec_st*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
// What is put on the stream from here to the end is kept, not run.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long);
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready);
cudaError_t cudaGetLastError();
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);

// cudaLaunchKernelEx, as the toolkit declares it.
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  void* attrs = nullptr;
  unsigned numAttrs = 0;
};
cudaError_t emulated_launch_check(const cudaLaunchConfig_t& config);
template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  const cudaError_t error = emulated_launch_check(*config);
  if (error != cudaSuccess) return error;
  std::tuple<std::decay_t<Params>...> values(std::forward<Args>(args)...);
  cuda_emulator::enqueue(config->stream, [=, c = *config] {
    cuda_emulator::run_grid(c.gridDim, c.blockDim, c.dynamicSmemBytes,
                            [&] { std::apply(kernel, values); });
  });
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int) {
  return cudaSuccess;
}
inline constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 8;

inline void __syncthreads() { cuda_emulator::sync_block(); }
inline void __syncwarp(unsigned = 0xffffffffu) { cuda_emulator::sync_warp(); }
template <class T>
T emulated_exchange(T mine, unsigned from) {
  static_assert(sizeof(T) <= 16);
  T theirs;
  cuda_emulator::exchange(&mine, &theirs, sizeof(T), from);
  return theirs;
}
template <class T>
T __shfl_sync(unsigned, T x, int from) {
  return emulated_exchange(x, static_cast<unsigned>(from) & 31u);
}
template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  return emulated_exchange(x, cuda_emulator::lane() ^ static_cast<unsigned>(mask));
}
template <class T>
T __shfl_up_sync(unsigned, T x, unsigned delta) {
  const unsigned me = cuda_emulator::lane();
  return emulated_exchange(x, me >= delta ? me - delta : me);
}
template <class T>
T __shfl_down_sync(unsigned, T x, unsigned delta) {
  const unsigned me = cuda_emulator::lane();
  return emulated_exchange(x, me + delta < 32 ? me + delta : me);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned votes = 0;
  for (unsigned l = 0; l < 32; ++l) votes |= (emulated_exchange(predicate != 0 ? 1u : 0u, l)) << l;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int atomicAdd(int* at, int value) { return std::exchange(*at, *at + value); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
template <class T>
T __ldg(const T* from) {
  return *from;
}

// Device code calls these without std::.
using std::max;
using std::min;
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
