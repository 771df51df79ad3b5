#pragma once

#include "engine/core/backend.h"

// Raw kernels of pool.h.
namespace engine::kernels {

struct PoolSize {
  int64_t batch, in_h, in_w, channels, out_h, out_w, kernel, stride, padding;
};

// winner (batch, out_h, out_w, channels): u * kernel + v of the largest element of each window.
template <class T>
void max_pool_forward(Cpu, const T* x, T* y, uint8_t* winner, const PoolSize& size);
template <class T>
void max_pool_forward(Cuda, const T* x, T* y, uint8_t* winner, const PoolSize& size);
// dx += dy at the winners
template <class T>
void max_pool_backward(Cpu, const T* dy, const uint8_t* winner, T* dx, const PoolSize& size);
template <class T>
void max_pool_backward(Cuda, const T* dy, const uint8_t* winner, T* dx, const PoolSize& size);

template <class T>
void average_pool_forward(Cpu, const T* x, T* y, const PoolSize& size);
template <class T>
void average_pool_forward(Cuda, const T* x, T* y, const PoolSize& size);
// dx += dy / kernel^2
template <class T>
void average_pool_backward(Cpu, const T* dy, T* dx, const PoolSize& size);
template <class T>
void average_pool_backward(Cuda, const T* dy, T* dx, const PoolSize& size);

}  // namespace engine::kernels
