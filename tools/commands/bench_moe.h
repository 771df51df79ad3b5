#pragma once

#include "train/config.h"

namespace tools {

// Median milliseconds of a layer in a training step's forms.
struct LayerTimes {
  double forward_ms = 0, backward_ms = 0;
  double total() const { return forward_ms + backward_ms; }
};
struct MoeBesideDense {
  LayerTimes moe, dense;
  int64_t dense_hidden = 0;  // of a dense layer of as many multiplications a token
};

// One MoE layer of the recipe, with routing, dispatch and combine, and a dense MLP of as many
// active multiplications, in turn on the same tokens for about `seconds`, at least five times each
// after one that does not count. For recipes whose tokens choose their experts.
MoeBesideDense measure_moe_beside_dense(const train::Config& config, double seconds);

}  // namespace tools
