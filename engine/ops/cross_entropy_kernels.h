#pragma once

#include "engine/core/backend.h"
#include "engine/ops/cross_entropy.h"

// Raw kernels of cross_entropy. row_loss: (rows) f64; dlogits: (rows, cols), not yet scaled.
namespace engine::kernels {

template <class T>
void cross_entropy_forward(Cpu, const T* logits, const int32_t* labels, double* row_loss,
                           T* dlogits, RowsCols size, CrossEntropy kind);

// targets: (rows, cols).
template <class T>
void soft_cross_entropy_forward(Cpu, const T* logits, const T* targets, double* row_loss,
                                T* dlogits, RowsCols size, CrossEntropy kind);

}  // namespace engine::kernels
