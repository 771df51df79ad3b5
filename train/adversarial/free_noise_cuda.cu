#include "engine/core/cuda_launch.cuh"
#include "train/adversarial/free_noise_kernels.h"

namespace train::kernels {
namespace {

__device__ float cut_to_pixel(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

}  // namespace

void add_noise(Cuda on, const Channels& by, const float* images, const float* noise, float* sum,
               float* shown, int64_t n) {
  engine::launch_each(on, n, [=] __device__(int64_t i) {
    const float unit = by.unit[by.of(i)], black = by.black[by.of(i)];
    const float x = cut_to_pixel((images[i] - black) / unit) + noise[i];
    sum[i] = x;
    shown[i] = black + unit * cut_to_pixel(x);
  });
}

void move_noise(Cuda on, const float* sum, const float* gradient, float step, float eps,
                float* noise, int64_t n) {
  engine::launch_each(on, n, [=] __device__(int64_t i) {
    noise[i] = moved_noise(sum[i], gradient[i], step, eps, noise[i]);
  });
}

}  // namespace train::kernels
