#pragma once

#include "engine/core/tensor.h"

namespace engine {

// Several processes that train one model. What is not linear in the batch (S of PRC,
// importance, load) is summed over processes in the forward pass, gradients before the
// optimizer; everything else never asks. One process is all there is so far: sums are then
// the numbers themselves.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // x := the sum of x over all processes, added in the order of their ranks.
  virtual void all_reduce_sum(const Tensor& x) = 0;
};

class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce_sum(const Tensor&) override {}
};

}  // namespace engine
