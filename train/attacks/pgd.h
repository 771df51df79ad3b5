#pragma once

#include <cstdint>

#include "train/attacks/ball.h"
#include "train/attacks/victims.h"

namespace train {

struct PgdOptions {
  Ball ball;
  double step = 2.0 / 255;
  int64_t steps = 20;
  bool random_start = true;
  int64_t restarts = 1;
  uint64_t seed = 0;
};

// Projected gradient descent on the correct class (Madry et al. 2018; spec robust-sparse-moes 4):
//   x_0 = the clean image, or a random one of the ball;  x_{t+1} = project(x_t + step * ascent(g)),
//   g = d(classification loss of x_t) / d(x_t)
// `steps` times, from each of `restarts` starts. A victim that is misclassified at any x_t is
// broken there and left alone from then on; the others end as their last image. One step of size
// eps without a random start is FGSM (Goodfellow et al. 2015). Numbers of image i are keyed by
// (seed, its place in the data set, restart). Error(kValue) for sizes that make no sense.
void attack_pgd(AttackedModel& model, const PgdOptions& options, Victims& victims);

// Gaussian noise of deviation `sigma`, cut to [0, 1], drawn `restarts` times.
void attack_noise(AttackedModel& model, double sigma, int64_t restarts, uint64_t seed,
                  Victims& victims);

}  // namespace train
