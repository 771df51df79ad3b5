#pragma once

#include "engine/core/stored.h"

// Raw kernels of the pointwise ops, flat arrays of `count` elements. On CUDA T may be
// bf16, but for put_bf16.
namespace engine::kernels {

template <class T>
void add_forward(Cpu, const T* x, const T* other, T* y, int64_t count);
template <class T>
void add_forward(Cuda, const T* x, const T* other, T* y, int64_t count);
// y (+)= factor * x
template <class T>
void put_scaled(Cpu, const T* x, T factor, T* y, int64_t count, GradWrite write);
template <class T>
void put_scaled(Cuda, const T* x, Wide<T> factor, T* y, int64_t count, GradWrite write);
// y (+)= a * b
template <class T>
void put_product(Cpu, const T* a, const T* b, T* y, int64_t count, GradWrite write);
template <class T>
void put_product(Cuda, const T* a, const Wide<T>* b, T* y, int64_t count, GradWrite write);
void put_product(Cuda, const bf16* a, const bf16* b, float* y, int64_t count, GradWrite write);
template <class T>
void relu_forward(Cpu, const T* x, T* y, int64_t count);
template <class T>
void relu_forward(Cuda, const T* x, T* y, int64_t count);
// dx (+)= dy where y > 0; dx may be dy.
template <class T>
void relu_backward(Cpu, const T* y, const T* dy, T* dx, int64_t count, GradWrite write);
template <class T>
void relu_backward(Cuda, const T* y, const T* dy, T* dx, int64_t count, GradWrite write);
template <class T>
void tanh_forward(Cpu, const T* x, T* y, int64_t count);
template <class T>
void tanh_forward(Cuda, const T* x, T* y, int64_t count);
template <class T>
void tanh_backward(Cpu, const T* y, const T* dy, T* dx, int64_t count, GradWrite write);
template <class T>
void tanh_backward(Cuda, const T* y, const T* dy, T* dx, int64_t count, GradWrite write);
// y (+)= x rounded to bf16
template <class T>
void put_bf16(Cpu, const T* x, T* y, int64_t count, GradWrite write);
template <class T>
void put_bf16(Cuda, const T* x, T* y, int64_t count, GradWrite write);

}  // namespace engine::kernels
