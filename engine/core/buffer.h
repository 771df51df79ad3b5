#pragma once

#include <utility>

#include "engine/core/device_memory.h"
#include "engine/core/tensor.h"

namespace engine {

// Owns the memory of one tensor: batches, metrics, weights, anything that outlives a step.
// Starts as zeros. Move-only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Shape& shape, Dtype dtype, Device device = Device::kCpu)
      : tensor_(device_allocate(device, shape.numel() * size_of(dtype)), shape, dtype, device) {
    device_zero(device, tensor_.raw(), tensor_.bytes());
  }
  ~Buffer() {
    if (tensor_.defined()) device_free(tensor_.device(), tensor_.raw());
  }
  Buffer(Buffer&& other) noexcept : tensor_(std::exchange(other.tensor_, Tensor{})) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(tensor_, other.tensor_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  const Tensor& tensor() const { return tensor_; }
  template <class T>
  T* data() const {
    return tensor_.data<T>();
  }

 private:
  Tensor tensor_;
};

}  // namespace engine
