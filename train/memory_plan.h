#pragma once

#include <cstdint>
#include <string>

#include "moe/vmoe.h"
#include "train/config.h"

namespace train {

// Bytes a training run needs, by what for. Weights, gradients and optimizer slabs are exact;
// activations are counted tensor by tensor from the sizes, gradients of activations as the
// widest block's, since each is reused once its op has run.
struct MemoryPlan {
  int64_t parameters = 0;  // count
  int64_t weights = 0, gradients = 0, optimizer = 0, ema = 0;
  int64_t activations = 0;  // of one micro-batch, everything backward needs
  int64_t moe = 0;          // the part of activations that MoE layers take
  int64_t batches = 0;      // the loader's ring
  int64_t evaluation = 0;   // activations of eval.batch images, which stay beside those of training
  int64_t total() const {
    return weights + gradients + optimizer + ema + activations + batches + evaluation;
  }
  std::string text() const;  // a few lines for a person
};
MemoryPlan plan_memory(const Config& config, int64_t parameters);

// Memory this process may use: the smaller of what the system has available and what its
// control group leaves. 0 where neither can be read.
int64_t available_memory();

// Error(kValue) with the arithmetic if the plan does not fit into `available` bytes
// (0: unknown, passes). fitting: a train.micro_batch that would, which it then says; 0: none.
void check_fits(const MemoryPlan& plan, int64_t available, int64_t fitting = 0);

// The largest train.micro_batch below the present one with which the config's plan fits into
// `available` bytes; 0 if none does.
int64_t fitting_micro_batch(const Config& config, int64_t parameters, int64_t available);

}  // namespace train
