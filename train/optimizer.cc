#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"
#include "engine/core/parallel.h"

namespace train {

using engine::Cpu;
using engine::Slab;

namespace {
constexpr int64_t kPiece = int64_t{1} << 14;
}

Optimizer::Optimizer(const Config& config, engine::ParamStore& params)
    : options_(config.optimizer), ema_(config.train.ema), params_(params) {
  params.allocate(Slab::kGrad);
  params.allocate(Slab::kMoment1);
  if (options_.name == "adam") params.allocate(Slab::kMoment2);
  for (const engine::ParamStore::Entry& entry : params.entries()) {
    const bool decay = options_.decay == "all" || (options_.decay == "kernels" && entry.decay);
    for (int64_t i = 0; i < entry.shape.numel(); i += kPiece) {
      (entry.trainable ? pieces_ : statistics_)
          .push_back({entry.offset + i, std::min(kPiece, entry.shape.numel() - i), decay});
    }
  }
  partial_.resize(pieces_.size());
  if (ema_ > 0) {
    params.allocate(Slab::kEma);
    reset_ema();
  }
}

void Optimizer::reset_ema() {
  if (ema_ <= 0) return;
  const engine::Tensor from = params_.slab(Slab::kValue), to = params_.slab(Slab::kEma);
  engine::device_copy(to.device(), to.raw(), from.device(), from.raw(), from.bytes());
}

double Optimizer::gradient_norm() const {
  const engine::Tensor grads = params_.slab(Slab::kGrad);
  engine::dispatch_cpu(grads, [&]<class T>(Cpu) {
    const T* g = grads.data<const T>();
    engine::parallel_tasks(static_cast<int64_t>(pieces_.size()), [&](int64_t p) {
      const Piece& piece = pieces_[static_cast<size_t>(p)];
      // Eight running sums in f64, in a fixed order.
      double sums[8] = {};
      for (int64_t i = 0; i < piece.count; ++i) {
        const double x = static_cast<double>(g[piece.begin + i]);
        sums[i & 7] += x * x;
      }
      double sum = 0;
      for (const double s : sums) sum += s;
      partial_[static_cast<size_t>(p)] = sum;
    });
  });
  double total = 0;
  for (const double sum : partial_) total += sum;
  return std::sqrt(total);
}

template <class T>
void Optimizer::update_piece(const Piece& piece, int64_t update, double learning_rate,
                             double factor) const {
  const auto at = [&](Slab slab) { return params_.slab(slab).template data<T>() + piece.begin; };
  T *w = at(Slab::kValue), *g = at(Slab::kGrad), *m = at(Slab::kMoment1);
  T* ema = ema_ > 0 ? at(Slab::kEma) : nullptr;
  const T scale = static_cast<T>(factor), rate = static_cast<T>(learning_rate);
  const T all_decay = piece.decay ? static_cast<T>(options_.weight_decay) : T(0);
  const bool in_gradient = options_.decay_form == "gradient";
  const T decay = in_gradient ? T(0) : all_decay, slope = in_gradient ? all_decay : T(0);
  if (options_.name == "adam") {
    T* v = at(Slab::kMoment2);
    const double t = static_cast<double>(update + 1);
    const T b1 = static_cast<T>(options_.beta1), b2 = static_cast<T>(options_.beta2);
    const T c1 = static_cast<T>(1 - options_.beta1), c2 = static_cast<T>(1 - options_.beta2);
    const T inv1 = static_cast<T>(1 / (1 - std::pow(options_.beta1, t)));
    const T inv2 = static_cast<T>(1 / (1 - std::pow(options_.beta2, t)));
    const T eps = static_cast<T>(options_.eps);
    for (int64_t i = 0; i < piece.count; ++i) {
      const T gi = scale * g[i] + slope * w[i];
      m[i] = b1 * m[i] + c1 * gi;
      v[i] = b2 * v[i] + c2 * gi * gi;
      const T u = m[i] * inv1 / (std::sqrt(v[i] * inv2) + eps);
      w[i] -= rate * (u + decay * w[i]);
      g[i] = 0;
    }
  } else {
    const T momentum = static_cast<T>(options_.momentum);
    const T ahead = options_.nesterov ? momentum : T(1), now = options_.nesterov ? T(1) : T(0);
    for (int64_t i = 0; i < piece.count; ++i) {
      const T gi = scale * g[i] + slope * w[i];
      m[i] = gi + momentum * m[i];
      w[i] -= rate * (now * gi + ahead * m[i] + decay * w[i]);
      g[i] = 0;
    }
  }
  if (ema == nullptr) return;
  const T keep = static_cast<T>(ema_), take = static_cast<T>(1 - ema_);
  for (int64_t i = 0; i < piece.count; ++i) ema[i] = keep * ema[i] + take * w[i];
}

void Optimizer::step(int64_t update, double learning_rate, double norm) {
  const double factor = options_.clip > 0 && norm >= options_.clip ? options_.clip / norm : 1.0;
  engine::dispatch_cpu(params_.slab(Slab::kValue), [&]<class T>(Cpu) {
    engine::parallel_tasks(static_cast<int64_t>(pieces_.size()), [&](int64_t p) {
      update_piece<T>(pieces_[static_cast<size_t>(p)], update, learning_rate, factor);
    });
    if (ema_ <= 0) return;
    const T* from = params_.slab(Slab::kValue).template data<const T>();
    T* to = params_.slab(Slab::kEma).template data<T>();
    for (const Piece& p : statistics_) std::copy_n(from + p.begin, p.count, to + p.begin);
  });
}

}  // namespace train
