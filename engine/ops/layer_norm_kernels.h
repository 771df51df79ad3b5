#pragma once

#include "engine/core/stored.h"

// Raw kernels of layer_norm, T = float or double, on CUDA also bf16; (rows, cols) dense
// row-major.
namespace engine::kernels {

// stats: (rows, 2), mean and rstd of each row.
template <class T>
void layer_norm_forward(Cpu, const T* x, const T* scale, const T* bias, T* y, T* stats,
                        RowsCols size, double eps);
template <class T>
void layer_norm_forward(Cuda, const T* x, const Wide<T>* scale, const Wide<T>* bias, T* y,
                        Wide<T>* stats, RowsCols size, double eps);

// Where gradients go; null: not wanted.
template <class T>
struct LayerNormGrads {
  T* dx = nullptr;  // (rows, cols)
  GradWrite write = GradWrite::kOverwrite;
  Wide<T>*dscale = nullptr, *dbias = nullptr;  // (cols), added to; both or neither
};

template <class T>
void layer_norm_backward(Cpu, const T* x, const T* scale, const T* stats, const T* dy,
                         RowsCols size, const LayerNormGrads<T>& to);
template <class T>
void layer_norm_backward(Cuda, const T* x, const Wide<T>* scale, const Wide<T>* stats, const T* dy,
                         RowsCols size, const LayerNormGrads<T>& to);

}  // namespace engine::kernels
