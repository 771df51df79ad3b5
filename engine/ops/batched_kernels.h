#pragma once

#include "engine/core/backend.h"
#include "engine/gemm/gemm.h"

// Raw kernels of batched_matmul and transpose.
namespace engine::kernels {

// c[b] (m,n) = op(a[b]) (m,k) * op(x[b]) (k,n), all of them dense.
template <class T>
void batched_gemm(Cpu, Trans ta, Trans tx, int64_t batch, GemmSize size, const T* a, const T* x,
                  T* c, GradWrite write, Precision precision);
template <class T>
void batched_gemm(Cuda, Trans ta, Trans tx, int64_t batch, GemmSize size, const T* a, const T* x,
                  T* c, GradWrite write, Precision precision);

// y[b] (cols,rows) = x[b] (rows,cols), transposed.
template <class T>
void put_transposed(Cpu, const T* x, T* y, int64_t batch, RowsCols size, GradWrite write);
template <class T>
void put_transposed(Cuda, const T* x, T* y, int64_t batch, RowsCols size, GradWrite write);

}  // namespace engine::kernels
