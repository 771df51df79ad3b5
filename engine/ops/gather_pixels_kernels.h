#pragma once

#include "engine/core/backend.h"

// Raw kernels of gather_pixels.h.
namespace engine::kernels {

struct PixelMoves {
  int64_t batch, pixels, places, channels;
};

// y (batch, places, channels): y[b,q] = x[b, index[q]], zeros where index[q] is -1.
template <class T>
void gather_pixels_forward(Cpu, const T* x, const int32_t* index, T* y, const PixelMoves& size);
template <class T>
void gather_pixels_forward(Cuda, const T* x, const int32_t* index, T* y, const PixelMoves& size);
// dx[b, index[q]] += dy[b,q], in the order of q
template <class T>
void gather_pixels_backward(Cpu, const T* dy, const int32_t* index, T* dx, const PixelMoves& size);
template <class T>
void gather_pixels_backward(Cuda, const T* dy, const int32_t* index, T* dx, const PixelMoves& size);

}  // namespace engine::kernels
