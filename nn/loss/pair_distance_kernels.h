#pragma once

#include "engine/core/backend.h"
#include "nn/loss/pair_distance.h"

// Raw kernels of pair_distance (pair_distance.h has the formulas).
namespace nn::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::RowsCols;

// Rows left[n] and right[n] of an array, n < count; count > 0. With `number` (CUDA), only the first
// *number are pairs, which may be none; the others are -1.
struct RowPairs {
  const int32_t *left, *right;
  int64_t count;
  const int32_t* number = nullptr;
};

// x: (rows, cols), loss: (1)
template <class T>
void pair_distance_forward(Cpu, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                           T* loss);
template <class T>
void pair_distance_forward(Cuda, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                           T* loss);
// dx += dy[0] dloss/dx
template <class T>
void pair_distance_backward(Cpu, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                            const T* dy, T* dx);
template <class T>
void pair_distance_backward(Cuda, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                            const T* dy, T* dx);

}  // namespace nn::kernels
