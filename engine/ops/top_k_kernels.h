#pragma once

#include "engine/core/backend.h"

// Raw kernels of top_k and pick. x: `size` entries; index: (rows, k).
namespace engine::kernels {

template <class T>
void top_k_forward(Cpu, const T* x, int32_t* index, RowsCols size, int64_t k);
template <class T>
void top_k_forward(Cuda, const T* x, int32_t* index, RowsCols size, int64_t k);
template <class T>
void pick_forward(Cpu, const T* x, const int32_t* index, T* y, RowsCols size, int64_t k);
template <class T>
void pick_forward(Cuda, const T* x, const int32_t* index, T* y, RowsCols size, int64_t k);
// dx[i, index[i,j]] += dy[i,j]
template <class T>
void pick_backward(Cpu, const int32_t* index, const T* dy, T* dx, RowsCols size, int64_t k);
template <class T>
void pick_backward(Cuda, const int32_t* index, const T* dy, T* dx, RowsCols size, int64_t k);

}  // namespace engine::kernels
