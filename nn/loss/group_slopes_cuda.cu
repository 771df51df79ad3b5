#include "engine/core/cuda_launch.cuh"
#include "nn/loss/group_slopes_kernels.h"

namespace nn::kernels {

template <class T>
void add_group_slopes(Cuda on, const double* slopes, const T* dy, T* dx, const Groups& g) {
  const int64_t experts = g.experts, group = g.tokens * experts;
  engine::launch_each(on, g.count * group, [=] __device__(int64_t i) {
    dx[i] += static_cast<T>(static_cast<double>(dy[0]) * slopes[i / group * experts + i % experts]);
  });
}

template void add_group_slopes(Cuda, const double*, const float*, float*, const Groups&);
template void add_group_slopes(Cuda, const double*, const double*, double*, const Groups&);

}  // namespace nn::kernels
