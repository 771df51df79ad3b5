#include <cmath>

#include "engine/core/parallel.h"
#include "train/optimizer_kernels.h"

namespace train::kernels {

Update update_of(const Config::Optimizer& o, double ema, int64_t update, double rate,
                 double scale) {
  const double t = static_cast<double>(update + 1);
  const bool in_gradient = o.decay_form == "gradient";
  return {.apply = true,
          .adam = o.name == "adam",
          .nesterov = o.nesterov,
          .scale = scale,
          .rate = rate,
          .decay = in_gradient ? 0 : o.weight_decay,
          .slope = in_gradient ? o.weight_decay : 0,
          .beta1 = o.beta1,
          .beta2 = o.beta2,
          .eps = o.eps,
          .correct1 = 1 / (1 - std::pow(o.beta1, t)),
          .correct2 = 1 / (1 - std::pow(o.beta2, t)),
          .momentum = o.momentum,
          .ema = ema};
}

template <class T>
void square_sums(engine::Cpu, const T* grad, std::span<const Piece> pieces, double* partial) {
  engine::parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t p) {
    const Piece& piece = pieces[static_cast<size_t>(p)];
    // Eight running sums in f64, in a fixed order.
    double sums[8] = {};
    for (int64_t i = 0; i < piece.count; ++i) {
      const double x = static_cast<double>(grad[piece.begin + i]);
      sums[i & 7] += x * x;
    }
    double sum = 0;
    for (const double s : sums) sum += s;
    partial[p] = sum;
  });
}

namespace {

template <class T>
void update_piece(const Slabs<T>& slabs, const Piece& piece, const Update& by) {
  T *w = slabs.value + piece.begin, *g = slabs.grad + piece.begin, *m = slabs.moment1 + piece.begin;
  const T scale = static_cast<T>(by.scale), rate = static_cast<T>(by.rate);
  const T decay = piece.decay ? static_cast<T>(by.decay) : T(0);
  const T slope = piece.decay ? static_cast<T>(by.slope) : T(0);
  if (by.adam) {
    T* v = slabs.moment2 + piece.begin;
    const T b1 = static_cast<T>(by.beta1), b2 = static_cast<T>(by.beta2);
    const T c1 = static_cast<T>(1 - by.beta1), c2 = static_cast<T>(1 - by.beta2);
    const T inv1 = static_cast<T>(by.correct1), inv2 = static_cast<T>(by.correct2);
    const T eps = static_cast<T>(by.eps);
    for (int64_t i = 0; i < piece.count; ++i) {
      const T gi = scale * g[i] + slope * w[i];
      m[i] = b1 * m[i] + c1 * gi;
      v[i] = b2 * v[i] + c2 * gi * gi;
      const T u = m[i] * inv1 / (std::sqrt(v[i] * inv2) + eps);
      w[i] -= rate * (u + decay * w[i]);
      g[i] = 0;
    }
  } else {
    const T momentum = static_cast<T>(by.momentum);
    const T ahead = by.nesterov ? momentum : T(1), now = by.nesterov ? T(1) : T(0);
    for (int64_t i = 0; i < piece.count; ++i) {
      const T gi = scale * g[i] + slope * w[i];
      m[i] = gi + momentum * m[i];
      w[i] -= rate * (now * gi + ahead * m[i] + decay * w[i]);
      g[i] = 0;
    }
  }
  if (slabs.ema == nullptr) return;
  T* ema = slabs.ema + piece.begin;
  const T keep = static_cast<T>(by.ema), take = static_cast<T>(1 - by.ema);
  for (int64_t i = 0; i < piece.count; ++i) ema[i] = keep * ema[i] + take * w[i];
}

}  // namespace

template <class T>
void update_weights(engine::Cpu, const Slabs<T>& slabs, std::span<const Piece> pieces,
                    const Update& update) {
  engine::parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t p) {
    update_piece<T>(slabs, pieces[static_cast<size_t>(p)], update);
  });
}

template void square_sums(engine::Cpu, const float*, std::span<const Piece>, double*);
template void square_sums(engine::Cpu, const double*, std::span<const Piece>, double*);
template void update_weights(engine::Cpu, const Slabs<float>&, std::span<const Piece>,
                             const Update&);
template void update_weights(engine::Cpu, const Slabs<double>&, std::span<const Piece>,
                             const Update&);

}  // namespace train::kernels
