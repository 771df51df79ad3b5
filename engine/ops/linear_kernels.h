#pragma once

#include "engine/core/backend.h"
#include "engine/ops/gelu_math.h"

// Raw kernels around the products of linear and grouped_linear; (rows, cols) row-major.
namespace engine::kernels {

// dz = dh * gelu'(z), flat; dz may be dh.
template <class T>
void gelu_backward(Cpu, const T* z, const T* dh, T* dz, int64_t count, GeluForm form);

// sums[g, c] += sum of x[r, c] over the rows offset[g] ... offset[g+1] of group g.
template <class T>
void add_column_sums(Cpu, const T* x, const int32_t* offset, int64_t groups, RowsCols size,
                     T* sums);

// y += x, flat.
template <class T>
void add_into(Cpu, const T* x, T* y, int64_t count);

}  // namespace engine::kernels
