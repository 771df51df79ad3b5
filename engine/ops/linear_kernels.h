#pragma once

#include "engine/core/backend.h"
#include "engine/core/stored.h"
#include "engine/ops/gelu_math.h"

// Raw kernels around the products of linear and grouped_linear; (rows, cols) row-major. On CUDA T
// may be bf16; column sums are f32 then.
namespace engine::kernels {

// dz = dh * gelu'(z), flat; dz may be dh.
template <class T>
void gelu_backward(Cpu, const T* z, const T* dh, T* dz, int64_t count, GeluForm form);
template <class T>
void gelu_backward(Cuda, const T* z, const T* dh, T* dz, int64_t count, GeluForm form);

// sums[g, c] += sum of x[r, c] over the rows offset[g] ... offset[g+1] of group g. `offset` lies
// where x lies; null, with one group: all rows.
template <class T>
void add_column_sums(Cpu, const T* x, const int32_t* offset, int64_t groups, RowsCols size,
                     T* sums);
template <class T>
void add_column_sums(Cuda, const T* x, const int32_t* offset, int64_t groups, RowsCols size,
                     Wide<T>* sums);

// y += x, flat.
template <class T>
void add_into(Cpu, const T* x, T* y, int64_t count);
template <class T>
void add_into(Cuda, const T* x, T* y, int64_t count);

}  // namespace engine::kernels
