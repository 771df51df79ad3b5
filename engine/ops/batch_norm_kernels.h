#pragma once

#include "engine/core/backend.h"

// Raw kernels of batch_norm.h; x, y, residual are (rows, cols).
namespace engine::kernels {

// mean, var (cols): of the columns, population variance.
template <class T>
void column_statistics(Cpu, const T* x, T* mean, T* var, RowsCols size);
template <class T>
void column_statistics(Cuda, const T* x, T* mean, T* var, RowsCols size);

// factor = 1/sqrt(var + eps)
template <class T>
void rstd_of(Cpu, const T* var, T* rstd, int64_t cols, double eps);
template <class T>
void rstd_of(Cuda, const T* var, T* rstd, int64_t cols, double eps);

// to <- (1 - momentum) to + momentum * factor * from
template <class T>
void move_average(Cpu, const T* from, double factor, double momentum, T* to, int64_t cols);
template <class T>
void move_average(Cuda, const T* from, double factor, double momentum, T* to, int64_t cols);

// Statistics and parameters of all columns.
template <class T>
struct NormColumns {
  const T *mean, *rstd, *scale, *bias;
};

// y = (x - mean) * (rstd * scale) + bias (+ residual, not null), then max(., 0) if relu.
template <class T>
void batch_norm_forward(Cpu, const T* x, const NormColumns<T>& columns, const T* residual,
                        bool relu, T* y, RowsCols size);
template <class T>
void batch_norm_forward(Cuda, const T* x, const NormColumns<T>& columns, const T* residual,
                        bool relu, T* y, RowsCols size);

// Where the gradients of normalisation come from. With `relu` the sign of y is found again from x:
// the same numbers by the same operations.
template <class T>
struct NormGradient {
  const T *x, *dy;
  NormColumns<T> columns;
  bool relu;
  RowsCols size;
};

// sums (2, cols): of g, and of g * (x - mean).
template <class T>
void batch_norm_sums(Cpu, const NormGradient<T>& from, T* sums);
template <class T>
void batch_norm_sums(Cuda, const NormGradient<T>& from, T* sums);

// dx (+)= rstd * scale * (g - sums[0] / rows - (x - mean) * rstd^2 * sums[1] / rows); sums null:
// without those terms.
template <class T>
void batch_norm_input_gradient(Cpu, const NormGradient<T>& from, const T* sums, T* dx,
                               GradWrite write);
template <class T>
void batch_norm_input_gradient(Cuda, const NormGradient<T>& from, const T* sums, T* dx,
                               GradWrite write);

// dscale += sums[1] * rstd, dbias += sums[0]; either may be null.
template <class T>
void batch_norm_param_gradients(Cpu, const T* sums, const T* rstd, T* dscale, T* dbias,
                                int64_t cols);
template <class T>
void batch_norm_param_gradients(Cuda, const T* sums, const T* rstd, T* dscale, T* dbias,
                                int64_t cols);

}  // namespace engine::kernels
