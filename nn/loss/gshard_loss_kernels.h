#pragma once

#include "engine/core/backend.h"
#include "nn/loss/token_groups.h"

// Raw kernels of gshard_loss (gshard_loss.h has the formula); its backward is add_group_slopes().
namespace nn::kernels {

using engine::Cpu;
using engine::Cuda;

//   gates   (groups * tokens, E)
//   chosen  (groups * tokens, k), of which the first is read
//   slope   (groups, E): d loss / d gates, the same for all tokens of a group
//   loss    (1)
template <class T>
void gshard_forward(Cpu, const T* gates, const int32_t* chosen, int64_t k, const Groups& g,
                    double* slope, T* loss);
template <class T>
void gshard_forward(Cuda, const T* gates, const int32_t* chosen, int64_t k, const Groups& g,
                    double* slope, T* loss);

// The slope per token whose first choice an expert is: E / (tokens^2 groups).
inline double gshard_unit(const Groups& g) {
  return static_cast<double>(g.experts) /
         (static_cast<double>(g.tokens) * static_cast<double>(g.tokens) *
          static_cast<double>(g.count));
}

}  // namespace nn::kernels
