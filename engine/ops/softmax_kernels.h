#pragma once

#include "engine/core/backend.h"

// Raw kernels of softmax, T = float or double. Pointers are dense row-major
// (rows, cols) in the backend's memory. Nothing is checked here.
// forward: y may be x. backward: dx must not alias y or dy.
namespace engine::kernels {

template <class T>
void softmax_forward(Cpu, const T* x, T* y, RowsCols size);
template <class T>
void softmax_forward(Cuda, const T* x, T* y, RowsCols size);

template <class T>
void softmax_backward(Cpu, const T* y, const T* dy, T* dx, RowsCols size, GradWrite write);
template <class T>
void softmax_backward(Cuda, const T* y, const T* dy, T* dx, RowsCols size, GradWrite write);

}  // namespace engine::kernels
