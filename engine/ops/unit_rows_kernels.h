#pragma once

#include "engine/core/backend.h"

// Raw kernels of unit_rows. factor may be null, which is 1.
namespace engine::kernels {

// norms (R): 1 / sqrt(sum x^2 + eps) of every row.
template <class T>
void unit_rows_forward(Cpu, const T* x, const T* factor, T* y, T* norms, RowsCols size, double eps);
template <class T>
void unit_rows_forward(Cuda, const T* x, const T* factor, T* y, T* norms, RowsCols size,
                       double eps);
template <class T>
void unit_rows_backward(Cpu, const T* x, const T* factor, const T* norms, const T* dy, T* dx,
                        RowsCols size, GradWrite write);
template <class T>
void unit_rows_backward(Cuda, const T* x, const T* factor, const T* norms, const T* dy, T* dx,
                        RowsCols size, GradWrite write);
template <class T>
void unit_rows_backward_factor(Cpu, const T* x, const T* norms, const T* dy, T* dfactor,
                               RowsCols size, GradWrite write);
template <class T>
void unit_rows_backward_factor(Cuda, const T* x, const T* norms, const T* dy, T* dfactor,
                               RowsCols size, GradWrite write);

}  // namespace engine::kernels
