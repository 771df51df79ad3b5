#include <algorithm>

#include "nn/loss/gshard_loss_kernels.h"

namespace nn::kernels {

template <class T>
void gshard_forward(Cpu, const T* gates, const int32_t* chosen, int64_t k, const Groups& g,
                    double* slope, T* loss) {
  const double unit = gshard_unit(g);
  const int64_t all = g.count * g.tokens;
  std::fill_n(slope, g.count * g.experts, 0.0);
  for (int64_t t = 0; t < all; ++t) slope[t / g.tokens * g.experts + chosen[t * k]] += unit;
  double sum = 0;
  for (int64_t t = 0; t < all; ++t) {
    for (int64_t e = 0; e < g.experts; ++e) {
      sum += slope[t / g.tokens * g.experts + e] * static_cast<double>(gates[t * g.experts + e]);
    }
  }
  loss[0] = static_cast<T>(sum);
}

template void gshard_forward(Cpu, const float*, const int32_t*, int64_t, const Groups&, double*,
                             float*);
template void gshard_forward(Cpu, const double*, const int32_t*, int64_t, const Groups&, double*,
                             double*);

}  // namespace nn::kernels
