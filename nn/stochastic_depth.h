#pragma once

#include "nn/module.h"

namespace nn {

// Stochastic depth (Huang et al., ECCV 2016) of one residual branch: in training an image skips it
// with probability `rate`, and what the others get from it is scaled by 1 / (1 - rate), so that
// its mean stays and evaluation needs neither:
//
//   y[n] = x[n] + branch[n] / (1 - rate)   or x[n]
//
// Whom it skips is a pure function of (seed, step, branch, sample).
class StochasticDepth {
 public:
  // branch: its number within the model, part of the key.
  StochasticDepth(double rate, int64_t branch) : rate_(rate), branch_(branch) {}
  // What the branch's layer shall add itself to: x, or nothing where join() does that.
  engine::Tensor residual(const Forward& f, const engine::Tensor& x) const {
    return active(f) ? engine::Tensor{} : x;
  }
  // x plus the layer's output, which was given residual(f, x). Error(kValue) without the ids of
  // the batch's images.
  engine::Tensor join(Forward& f, const engine::Tensor& x, const engine::Tensor& output) const;

 private:
  bool active(const Forward& f) const { return f.mode == Mode::kTrain && rate_ > 0; }

  double rate_;
  int64_t branch_;
};

// The rate of block i of L: it grows from 0 in the first to `rate` in the last, rate * i / (L - 1)
// (as timm and DeiT have it); both branches of a block have it.
double stochastic_depth_of(double rate, int64_t block, int64_t blocks);

}  // namespace nn
