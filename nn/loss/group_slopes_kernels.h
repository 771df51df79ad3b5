#pragma once

#include "engine/core/backend.h"
#include "nn/loss/token_groups.h"

// The backward of losses whose slope is the same for all tokens of a group.
namespace nn::kernels {

using engine::Cpu;
using engine::Cuda;

// dx[t, e] += dy[0] slopes[group of t, e]
//   slopes  (groups, E),  dy (1),  dx (groups * tokens, E)
template <class T>
void add_group_slopes(Cpu, const double* slopes, const T* dy, T* dx, const Groups& g);
template <class T>
void add_group_slopes(Cuda, const double* slopes, const T* dy, T* dx, const Groups& g);

}  // namespace nn::kernels
