#include "nn/loss/group_slopes_kernels.h"

namespace nn::kernels {

template <class T>
void add_group_slopes(Cpu, const double* slopes, const T* dy, T* dx, const Groups& g) {
  const double seed = static_cast<double>(dy[0]);
  for (int64_t t = 0; t < g.count * g.tokens; ++t) {
    for (int64_t e = 0; e < g.experts; ++e) {
      dx[t * g.experts + e] += static_cast<T>(seed * slopes[t / g.tokens * g.experts + e]);
    }
  }
}

template void add_group_slopes(Cpu, const double*, const float*, float*, const Groups&);
template void add_group_slopes(Cpu, const double*, const double*, double*, const Groups&);

}  // namespace nn::kernels
