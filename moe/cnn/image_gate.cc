#include "moe/cnn/image_gate.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"
#include "engine/ops/top_k.h"

namespace moe {

using engine::check;
using engine::Cpu;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

namespace {

constexpr int kRounds = 25;  // the last without capacities

// One assignment of images to experts; arrays in the arena. q row-major (images, experts).
struct Assignment {
  const double* q;
  int64_t images, experts;
  int32_t* room;     // (experts)
  int32_t* missing;  // (images): choices that it still lacks
  int32_t* askers;   // (images), of one expert
  uint8_t *taken, *asks;

  int64_t at(int64_t t, int64_t e) const { return t * experts + e; }

  // Marks the experts that image t asks for in this round.
  void ask(int64_t t, bool unlimited) {
    for (int64_t e = 0; e < experts; ++e) asks[at(t, e)] = 0;
    for (int32_t n = 0; n < missing[t]; ++n) {
      int64_t best = -1;
      for (int64_t e = 0; e < experts; ++e) {
        if (taken[at(t, e)] != 0 || asks[at(t, e)] != 0 || (!unlimited && room[e] <= 0)) continue;
        if (best < 0 || q[at(t, e)] > q[at(t, best)]) best = e;
      }
      if (best < 0) return;
      asks[at(t, best)] = 1;
    }
  }

  // Expert e takes those who ask for it, the best first, as many as it has room for.
  void take(int64_t e, bool unlimited) {
    int32_t* end = askers;
    for (int64_t t = 0; t < images; ++t) {
      if (asks[at(t, e)] != 0) *end++ = static_cast<int32_t>(t);
    }
    std::sort(askers, end, [&](int32_t a, int32_t b) {
      const double x = q[at(a, e)], y = q[at(b, e)];
      return x > y || (x == y && a < b);
    });
    if (!unlimited) end = std::min(end, askers + room[e]);
    for (const int32_t* t = askers; t < end; ++t) {
      taken[at(*t, e)] = 1;
      --missing[*t];
      --room[e];
    }
  }

  void run() {
    for (int i = 0; i < kRounds; ++i) {
      const bool unlimited = i + 1 == kRounds;
      if (std::all_of(missing, missing + images, [](int32_t m) { return m == 0; })) return;
      for (int64_t t = 0; t < images; ++t) ask(t, unlimited);
      for (int64_t e = 0; e < experts; ++e) take(e, unlimited);
    }
  }
};

}  // namespace

Tensor noisy_selection(const nn::Forward& f, const Tensor& scores, int64_t layer) {
  const int64_t rows = scores.shape()[0], experts = scores.shape()[1];
  const auto images = static_cast<int64_t>(f.sample_ids.size());
  check(images > 0 && rows % images == 0, ErrorKind::kValue, "noisy_selection: ", images,
        " sample ids for ", rows, " images, or patches of images");
  const int64_t patches = rows / images;
  const Tensor q = f.tape.arena().empty(scores.shape(), scores.dtype());
  const auto key = engine::RngKey(f.seed, engine::Purpose::kRouterNoise)
                       .with(static_cast<uint64_t>(f.step))
                       .with(static_cast<uint64_t>(layer));
  engine::dispatch_cpu(scores, [&]<class T>(Cpu) {
    const T* s = scores.data<const T>();
    const auto n = static_cast<double>(scores.numel());
    double mean = 0, var = 0;
    for (int64_t i = 0; i < scores.numel(); ++i) mean += static_cast<double>(s[i]) / n;
    for (int64_t i = 0; i < scores.numel(); ++i) {
      const double d = static_cast<double>(s[i]) - mean;
      var += n > 1 ? d * d / (n - 1) : 0;
    }
    const double unit = var > 0 ? 1 / std::sqrt(var) : 1;
    for (int64_t t = 0; t < rows; ++t) {
      const auto sample = f.sample_ids[static_cast<size_t>(t / patches)];
      const auto own = key.with(static_cast<uint64_t>(sample));
      const int64_t first = t % patches * experts;
      const T* from = s + t * experts;
      T* to = q.data<T>() + t * experts;
      double largest = -INFINITY, sum = 0;
      const auto moved = [&](int64_t e) {
        return static_cast<double>(from[e]) * unit +
               0.1 * own.normal(static_cast<uint64_t>(first + e));
      };
      for (int64_t e = 0; e < experts; ++e) largest = std::max(largest, moved(e));
      for (int64_t e = 0; e < experts; ++e) sum += std::exp(moved(e) - largest);
      for (int64_t e = 0; e < experts; ++e) {
        to[e] = static_cast<T>(std::exp(moved(e) - largest) / sum);
      }
    }
  });
  return q;
}

Tensor choose_experts(Tape& tape, const Tensor& q, int64_t k, int64_t capacity) {
  check(q.shape().rank() == 2, ErrorKind::kShape, "choose_experts: expected (T, N), got ",
        q.shape());
  const int64_t images = q.shape()[0], experts = q.shape()[1];
  check(k >= 1 && k <= experts && capacity >= 0, ErrorKind::kValue, "choose_experts: ", k, " of ",
        experts, " experts with room for ", capacity);
  if (capacity == 0) return engine::top_k(tape.input(q), k);
  engine::StepArena& arena = tape.arena();
  auto* scores = arena.empty(q.shape(), Dtype::kF64).data<double>();
  engine::dispatch_cpu(q, [&]<class T>(Cpu) {
    // NaN is smaller than every number.
    for (int64_t i = 0; i < q.numel(); ++i) {
      const auto x = static_cast<double>(q.data<const T>()[i]);
      scores[i] = std::isnan(x) ? -INFINITY : x;
    }
  });
  const auto integers = [&](int64_t n, int64_t value) {
    auto* out = arena.empty({n}, Dtype::kI32).data<int32_t>();
    std::fill_n(out, n, static_cast<int32_t>(value));
    return out;
  };
  const auto flags = [&] {
    auto* out = arena.empty(q.shape(), Dtype::kU8).data<uint8_t>();
    std::fill_n(out, q.numel(), uint8_t{0});
    return out;
  };
  Assignment a{.q = scores,
               .images = images,
               .experts = experts,
               .room = integers(experts, std::min(capacity, images)),
               .missing = integers(images, k),
               .askers = integers(images, 0),
               .taken = flags(),
               .asks = flags()};
  a.run();
  Tensor chosen = tape.arena().empty({images, k}, Dtype::kI32);
  auto* out = chosen.data<int32_t>();
  for (int64_t t = 0; t < images; ++t) {
    int32_t* end = out + t * k;
    for (int64_t e = 0; e < experts; ++e) {
      if (a.taken[a.at(t, e)] != 0) *end++ = static_cast<int32_t>(e);
    }
    std::sort(out + t * k, end, [&](int32_t x, int32_t y) {
      const double p = scores[a.at(t, x)], r = scores[a.at(t, y)];
      return p > r || (p == r && x < y);
    });
  }
  return chosen;
}

Tensor gate_weights(const Tensor& scores, const Tensor& chosen, GateWeight form) {
  const Tensor s = engine::pick(scores, chosen);
  const int64_t images = s.shape()[0], k = s.shape()[1];
  check(form != GateWeight::kStraightThrough || k == 1, ErrorKind::kValue,
        "gate_weights: straight-through is for one expert an image, not ", k);
  Tape& on = *scores.tape();
  Tensor w = on.arena().empty(s.shape(), s.dtype());
  const auto below = [k, form](const auto* row) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += static_cast<double>(row[j]);
    return form == GateWeight::kNormalised ? sum + 1e-5 : 1.0;
  };
  engine::dispatch_cpu(s, [&]<class T>(Cpu) {
    for (int64_t t = 0; t < images; ++t) {
      const T* row = s.data<const T>() + t * k;
      for (int64_t j = 0; j < k; ++j) {
        const double x = static_cast<double>(row[j]) / below(row);
        const double weight = form == GateWeight::kStraightThrough ? 1 : x;
        w.data<T>()[t * k + j] = static_cast<T>(std::isnan(x) ? 0 : weight);
      }
    }
  });
  on.record("gate_weights", {s}, w, [=](const Tensor& dy, Tape& tape) {
    const Tensor ds = tape.target_zeroed(s);
    engine::dispatch_cpu(dy, [&]<class T>(Cpu) {
      for (int64_t t = 0; t < images; ++t) {
        const T *row = s.data<const T>() + t * k, *g = dy.data<const T>() + t * k;
        const double d = below(row);
        double shared = 0;  // through the sum below
        for (int64_t j = 0; form == GateWeight::kNormalised && j < k; ++j) {
          shared += static_cast<double>(g[j]) * static_cast<double>(row[j]) / (d * d);
        }
        for (int64_t j = 0; j < k; ++j) {
          if (std::isnan(static_cast<double>(row[j]) / d)) continue;
          ds.data<T>()[t * k + j] += static_cast<T>(static_cast<double>(g[j]) / d - shared);
        }
      }
    });
  });
  return w;
}

}  // namespace moe
