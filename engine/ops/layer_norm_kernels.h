#pragma once

#include "engine/core/backend.h"

// Raw kernels of layer_norm, T = float or double; (rows, cols) dense row-major.
namespace engine::kernels {

// stats: (rows, 2), mean and rstd of each row.
template <class T>
void layer_norm_forward(Cpu, const T* x, const T* scale, const T* bias, T* y, T* stats,
                        RowsCols size, double eps);
template <class T>
void layer_norm_forward(Cuda, const T* x, const T* scale, const T* bias, T* y, T* stats,
                        RowsCols size, double eps);

template <class T>
void layer_norm_backward_input(Cpu, const T* x, const T* scale, const T* stats, const T* dy, T* dx,
                               RowsCols size, GradWrite write);
template <class T>
void layer_norm_backward_input(Cuda, const T* x, const T* scale, const T* stats, const T* dy, T* dx,
                               RowsCols size, GradWrite write);

// Adds to dscale and dbias (cols).
template <class T>
void layer_norm_backward_params(Cpu, const T* x, const T* stats, const T* dy, T* dscale, T* dbias,
                                RowsCols size);
template <class T>
void layer_norm_backward_params(Cuda, const T* x, const T* stats, const T* dy, T* dscale, T* dbias,
                                RowsCols size);

}  // namespace engine::kernels
