#pragma once

#include "engine/core/backend.h"

// Raw kernels of mean_entropy: p (rows, cols), loss and dy (1).
namespace nn::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::RowsCols;

inline constexpr double kSmallProbability = 1e-7;  // keeps log(0) finite

template <class T>
void mean_entropy_forward(Cpu, const T* p, T* loss, RowsCols size);
template <class T>
void mean_entropy_forward(Cuda, const T* p, T* loss, RowsCols size);
// dp += dy[0] dloss/dp
template <class T>
void mean_entropy_backward(Cpu, const T* p, const T* dy, T* dp, RowsCols size);
template <class T>
void mean_entropy_backward(Cuda, const T* p, const T* dy, T* dp, RowsCols size);

}  // namespace nn::kernels
