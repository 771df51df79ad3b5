#pragma once

#include "engine/core/backend.h"
#include "engine/ops/cross_entropy.h"

// Raw kernels of cross_entropy. row_loss: (rows) f64; dlogits: (rows, cols), not yet scaled.
namespace engine::kernels {

template <class T>
void cross_entropy_forward(Cpu, const T* logits, const int32_t* labels, double* row_loss,
                           T* dlogits, RowsCols size, CrossEntropy kind);
template <class T>
void cross_entropy_forward(Cuda, const T* logits, const int32_t* labels, double* row_loss,
                           T* dlogits, RowsCols size, CrossEntropy kind);

// targets: (rows, cols).
template <class T>
void soft_cross_entropy_forward(Cpu, const T* logits, const T* targets, double* row_loss,
                                T* dlogits, RowsCols size, CrossEntropy kind);
template <class T>
void soft_cross_entropy_forward(Cuda, const T* logits, const T* targets, double* row_loss,
                                T* dlogits, RowsCols size, CrossEntropy kind);

// loss[0] = sum_r row_loss[r] / denominator
template <class T>
void sum_losses(Cpu, const double* row_loss, int64_t rows, double denominator, T* loss);
template <class T>
void sum_losses(Cuda, const double* row_loss, int64_t rows, double denominator, T* loss);

// dlogits (+)= slope * dloss[0] / denominator, slope being the forward's dlogits.
template <class T>
void cross_entropy_backward(Cpu, const T* slope, const T* dloss, double denominator, T* dlogits,
                            RowsCols size, GradWrite write);
template <class T>
void cross_entropy_backward(Cuda, const T* slope, const T* dloss, double denominator, T* dlogits,
                            RowsCols size, GradWrite write);

}  // namespace engine::kernels
