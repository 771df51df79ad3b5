#pragma once

#include <cstdint>
#include <span>

#include "train/attacks/attack_loss.h"
#include "train/attacks/ball.h"
#include "train/attacks/victims.h"

namespace train {

struct ApgdOptions {
  Ball ball;
  int64_t steps = 20;
  AttackLoss loss = AttackLoss::kClassification;
  int64_t restarts = 1;
  // kTargetedDlr: the classes that are second, third, ... on the clean image, in turn.
  int64_t targets = 9;
  uint64_t seed = 0;
  std::span<const float> starts = {};  // as PgdOptions has them
};

// APGD (Croce and Hein 2020; spec advmoe 7.1): ascent with momentum whose step halves by itself.
//
//   x_0 = a random image at distance eps, into [0, 1];  step = 2 eps;  for i = 0 ... steps - 1
//   z = project(x_i + step * ascent(g_i)),
//   x_{i+1} = project(x_i + a (z - x_i) + (1 - a)(x_i - x_{i-1})),  a = 1 at first, then 0.75
//
// After windows of max(0.22 T, 1) steps, each next one shorter by max(0.03 T, 1) down to
// max(0.06 T, 1), numbers rounded down, an image's step is halved and it goes back to its best
// point, if at most 75 % of the window's steps raised its loss, or if its step was not halved at
// the last check (at first it counts as halved) and its best loss has not improved since. A victim
// that is misclassified at any x_i is broken there and left alone; the others end as their best
// image. Numbers of image i are keyed by (seed, its place in the data set, restart or target).
// Error(kValue) for sizes that make no sense, and for fewer classes than the loss needs.
void attack_apgd(AttackedModel& model, const ApgdOptions& options, Victims& victims);

// Steps until each check: {4, 3, 2, 1, 1, ...} of 20, {22, 19, 16, ...} of 100.
struct ApgdWindow {
  explicit ApgdWindow(int64_t steps);
  void next();
  int64_t length, shorter, least;
};

}  // namespace train
