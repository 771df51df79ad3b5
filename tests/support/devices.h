#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/core/backend.h"
#include "engine/core/buffer.h"
#include "engine/core/cuda_runtime.h"
#include "engine/core/device_memory.h"

// The same test body on every device. A body takes a Device; each device has its own test case,
// and that of an absent device is decorated `* doctest::skip(!cuda_available())`, so that it counts
// as skipped and never as passed.
namespace engine::test {

inline bool cuda_available() {
  if constexpr (kCudaEnabled) return cuda_device_count() > 0;
  return false;
}

inline std::vector<Device> available_devices() {
  std::vector<Device> devices{Device::kCpu};
  if (cuda_available()) devices.push_back(Device::kCuda);
  return devices;
}

// Calls body(Cpu{}) or body(Cuda{stream}): how a test reaches the kernels of a device.
template <class Body>
void on_device(Device device, Body&& body) {
  if (device == Device::kCpu) return body(Cpu{});
  if constexpr (kCudaEnabled) {
    body(cuda_backend());
  } else {
    fail(ErrorKind::kDevice, "this build has no CUDA backend");
  }
}

// Copies values into memory of a device, and back.
template <class T>
Buffer upload(const std::vector<T>& values, const Shape& shape, Device device) {
  check(shape.numel() == static_cast<int64_t>(values.size()), ErrorKind::kShape, values.size(),
        " values for ", shape);
  Buffer buffer(shape, dtype_of<T>(), device);
  device_copy(device, buffer.tensor().raw(), Device::kCpu, values.data(), buffer.tensor().bytes());
  return buffer;
}
template <class T>
Buffer upload(const std::vector<T>& values, Device device) {
  return upload(values, {static_cast<int64_t>(values.size())}, device);
}
template <class T>
std::vector<T> download(const Tensor& x) {
  std::vector<T> values(static_cast<size_t>(x.numel()));
  device_copy(Device::kCpu, values.data(), x.device(), x.data<T>(), x.bytes());
  return values;
}
template <class T>
std::vector<T> download(const Buffer& buffer) {
  return download<T>(buffer.tensor());
}

// `count` values in [-scale, scale) that depend on the seed only (splitmix64).
template <class T>
std::vector<T> test_values(uint64_t seed, int64_t count, double scale = 1) {
  std::vector<T> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9e3779b97f4a7c15u;
  for (T& value : values) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    value = static_cast<T>(scale * (static_cast<double>(z >> 11) * 0x1p-52 - 1));
  }
  return values;
}

// The largest error relative to the largest wanted value; infinite on NaN or unequal sizes.
template <class T>
double worst_error(const std::vector<T>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return INFINITY;
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double e = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!std::isfinite(e)) return INFINITY;
    error = std::max(error, e);
    size = std::max(size, std::abs(want[i]));
  }
  return size > 0 ? error / size : error;
}
template <class T>
constexpr double tolerance() {
  return std::is_same_v<T, float> ? 2e-5 : 1e-12;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace engine::test
