#include "nn/loss/fixed_sums.cuh"
#include "nn/loss/gshard_loss_kernels.h"

namespace nn::kernels {

template <class T>
void gshard_forward(Cuda on, const T* gates, const int32_t* chosen, int64_t k, const Groups& g,
                    double* slope, T* loss) {
  const int64_t experts = g.experts, tokens = g.tokens;
  const double unit = gshard_unit(g);
  launch_column_sums(
      on, g.count, tokens, experts,
      [=] __device__(int64_t group, int64_t t, int64_t e) -> double {
        return chosen[(group * tokens + t) * k] == e ? 1.0 : 0.0;
      },
      [=] __device__(int64_t at, double first) { slope[at] = unit * first; });
  launch_total(
      on, g.count * tokens * experts,
      [=] __device__(int64_t i) -> double {
        return slope[i / (tokens * experts) * experts + i % experts] *
               static_cast<double>(gates[i]);
      },
      [=] __device__(double sum) { loss[0] = static_cast<T>(sum); });
}

template void gshard_forward(Cuda, const float*, const int32_t*, int64_t, const Groups&, double*,
                             float*);
template void gshard_forward(Cuda, const double*, const int32_t*, int64_t, const Groups&, double*,
                             double*);

}  // namespace nn::kernels
