#pragma once

#include <cstdint>
#include <span>

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
  // In the place of the first random start: row i is where image i of the data set starts, then
  // projected. Rows of one image's pixels; empty: none are given.
  std::span<const float> starts = {};
};

// Puts image i's row of `starts` into x, projected. Error(kInternal) if there are too few rows.
void take_start(std::span<const float> starts, const Victims& victims, int64_t i, const Ball& ball,
                std::span<float> x);

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
