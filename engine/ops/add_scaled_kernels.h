#pragma once

#include "engine/core/stored.h"

// Raw kernels of add_scaled: `images` of `size` elements, a factor each. On CUDA T may be
// bf16.
namespace engine::kernels {

template <class T>
void add_scaled(Cpu, const T* x, const T* branch, const float* factors, T* y, int64_t images,
                int64_t size);
template <class T>
void add_scaled(Cuda, const T* x, const T* branch, const float* factors, T* y, int64_t images,
                int64_t size);

// d (+)= factor * dy
template <class T>
void add_scaled_backward(Cpu, const T* dy, const float* factors, T* d, int64_t images, int64_t size,
                         GradWrite write);
template <class T>
void add_scaled_backward(Cuda, const T* dy, const float* factors, T* d, int64_t images,
                         int64_t size, GradWrite write);

}  // namespace engine::kernels
