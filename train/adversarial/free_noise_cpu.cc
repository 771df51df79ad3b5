#include <algorithm>

#include "engine/core/parallel.h"
#include "train/adversarial/free_noise_kernels.h"

namespace train::kernels {
namespace {

constexpr int64_t kPiece = 4096;  // elements of a task

}  // namespace

void add_noise(Cpu, const Channels& by, const float* images, const float* noise, float* sum,
               float* shown, int64_t n) {
  engine::parallel_for(n / by.plane, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const float unit = by.unit[p % by.count], black = by.black[p % by.count];
      for (int64_t i = p * by.plane; i < (p + 1) * by.plane; ++i) {
        sum[i] = std::clamp((images[i] - black) / unit, 0.0f, 1.0f) + noise[i];
        shown[i] = black + unit * std::clamp(sum[i], 0.0f, 1.0f);
      }
    }
  });
}

void move_noise(Cpu, const float* sum, const float* gradient, float step, float eps, float* noise,
                int64_t n) {
  engine::parallel_for(n, kPiece, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      noise[i] = moved_noise(sum[i], gradient[i], step, eps, noise[i]);
    }
  });
}

}  // namespace train::kernels
