#pragma once

#include "engine/core/backend.h"

// Raw kernels of kl_divergence (kl_divergence.h has the formulas).
namespace nn::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::GradWrite;
using engine::RowsCols;

//   logits, other      (rows, cols)
//   dlogits, dother    (rows, cols), not yet over the denominator
//   row_loss           (rows) scratch
//   loss               (1)
template <class T>
void kl_divergence_forward(Cpu, const T* logits, const T* other, T* dlogits, T* dother,
                           double* row_loss, T* loss, RowsCols size, double denominator);
template <class T>
void kl_divergence_forward(Cuda, const T* logits, const T* other, T* dlogits, T* dother,
                           double* row_loss, T* loss, RowsCols size, double denominator);
// dx (+)= dy[0] / denominator * slope, flat arrays of `count`.
template <class T>
void kl_divergence_backward(Cpu, const T* slope, const T* dy, T* dx, int64_t count,
                            double denominator, GradWrite write);
template <class T>
void kl_divergence_backward(Cuda, const T* slope, const T* dy, T* dx, int64_t count,
                            double denominator, GradWrite write);

}  // namespace nn::kernels
