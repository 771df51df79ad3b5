#pragma once

#include <vector>

#include "engine/core/param_store.h"
#include "train/config.h"
#include "train/optimizer_kernels.h"

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
// threads. On a GPU the sums of the norm are added in another, fixed order.
class Optimizer {
 public:
  // Allocates the slabs it needs (kMoment1, kMoment2 for adam, kEma) in `params`.
  Optimizer(const Config& config, engine::ParamStore& params);

  // |g| over all trainable parameters, in f64 over fixed pieces.
  double gradient_norm() const;
  // `update`: 0-based number of this update (t = update + 1). norm: gradient_norm().
  void step(int64_t update, double learning_rate, double norm);

  // The same on a GPU without the host knowing the norm. announce() says what step_there() is to do
  // and returns at once, and so does that; it can be recorded (engine/core/step_replay.h), to do
  // what was announced last. Nothing changes where the norm or `loss` (1) is not finite.
  void announce(int64_t update, double learning_rate);
  void step_there(const engine::Tensor& loss);
  double last_norm() const;  // of step_there(); waits for it

  // ema := weights; at the start of a run.
  void reset_ema();

 private:
  using Piece = kernels::Piece;

  Config::Optimizer options_;
  double ema_;
  engine::ParamStore& params_;
  std::vector<Piece> pieces_, statistics_;
  template <class T>
  kernels::Slabs<T> slabs() const;
  void copy_statistics() const;  // into the ema
  const Piece* pieces_there() const;
  kernels::Update* update_there() const;

  // On a GPU the pieces, Piece after Piece, what the norm is added up from, the norm, and what the
  // update at hand does.
  engine::Buffer device_pieces_, device_partial_, device_norm_, device_update_;
  mutable std::vector<double> partial_;
};

}  // namespace train
