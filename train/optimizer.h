#pragma once

#include <vector>

#include "engine/core/param_store.h"
#include "train/config.h"

namespace train {

// One update of all parameters, in one pass over the slabs (spec section 5; optax):
//   g' = g * min(1, clip / |g|)                           global norm, if clip > 0
//   adam: m = b1 m + (1-b1) g',  v = b2 v + (1-b2) g'^2
//         u = (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
//   sgd:  m = g' + momentum m,  u = m, or with optimizer.nesterov u = g' + momentum m
//   w -= lr (u + decay w)          decay only where optimizer.decay says: kernels, all, none
// With optimizer.decay_form = "gradient", as PyTorch's SGD has it, decay w is added to g' instead.
//   ema = d ema + (1-d) w          if train.ema = d > 0
// and the gradient is set to zero for the next step. Parameters that are not trainable (running
// statistics) are left alone, and copied into ema as they are. Nothing depends on the number of
// threads.
class Optimizer {
 public:
  // Allocates the slabs it needs (kMoment1, kMoment2 for adam, kEma) in `params`.
  Optimizer(const Config& config, engine::ParamStore& params);

  // |g| over all trainable parameters, in f64 over fixed pieces.
  double gradient_norm() const;
  // `update`: 0-based number of this update (t = update + 1). norm: gradient_norm().
  void step(int64_t update, double learning_rate, double norm);
  // ema := weights; at the start of a run.
  void reset_ema();

 private:
  struct Piece {  // a part of one parameter, small enough to balance threads
    int64_t begin, count;
    bool decay;
  };
  template <class T>
  void update_piece(const Piece& piece, int64_t update, double learning_rate, double factor) const;

  Config::Optimizer options_;
  double ema_;
  engine::ParamStore& params_;
  std::vector<Piece> pieces_, statistics_;
  mutable std::vector<double> partial_;
};

}  // namespace train
