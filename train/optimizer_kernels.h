#pragma once

#include <span>

#include "engine/core/backend.h"
#include "train/config.h"

// Raw kernels of the optimizer: what optimizer.h says, over pieces of the slabs.
namespace train::kernels {

struct Piece {  // a part of one parameter, small enough to balance threads
  int64_t begin, count;
  bool decay;
};

// Factors of one update.
struct Update {
  bool apply = true;  // false: weights and state stay as they are
  bool adam, nesterov;
  double scale;               // of the gradient: clipping
  double rate, decay, slope;  // slope: weight decay in the gradient; both for pieces that decay
  double beta1, beta2, eps;   // adam
  double correct1, correct2;  // 1 / (1 - beta^t)
  double momentum;            // sgd
  double ema;                 // 0: none
};
Update update_of(const Config::Optimizer& options, double ema, int64_t update, double rate,
                 double scale);

template <class T>
struct Slabs {
  T *value, *grad, *moment1, *moment2, *ema;  // the last two may be null
};

// partial[p] = sum of squares of the gradients of piece p, in f64.
template <class T>
void square_sums(engine::Cpu, const T* grad, std::span<const Piece> pieces, double* partial);
// The same with pieces and partial in device memory.
template <class T>
void square_sums(engine::Cuda, const T* grad, const Piece* pieces, int64_t count, double* partial);

template <class T>
void update_weights(engine::Cpu, const Slabs<T>& slabs, std::span<const Piece> pieces,
                    const Update& update);
// The same with `update` in device memory, too.
template <class T>
void update_weights(engine::Cuda, const Slabs<T>& slabs, const Piece* pieces, int64_t count,
                    const Update* update);

// All in device memory: norm = sqrt(sum of `count` partial), added in a fixed order; update.scale =
// clip / norm where clip > 0 and the norm is not below it, else 1; update.apply: whether the norm
// and the loss are finite.
template <class T>
void clip_update(engine::Cuda, const double* partial, int64_t count, double clip, const T* loss,
                 Update* update, double* norm);

}  // namespace train::kernels
