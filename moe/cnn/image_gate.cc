#include "moe/cnn/image_gate.h"

#include <algorithm>
#include <cmath>
#include <vector>

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

// One assignment of images to experts; q row-major (images, experts).
struct Assignment {
  const std::vector<double>& q;
  int64_t images, experts, k;
  std::vector<int64_t> room;
  std::vector<uint8_t> taken = std::vector<uint8_t>(q.size());
  std::vector<int64_t> missing = std::vector<int64_t>(static_cast<size_t>(images), k);

  size_t at(int64_t t, int64_t e) const { return static_cast<size_t>(t * experts + e); }

  // The experts that image t asks for.
  std::vector<int64_t> wishes(int64_t t, bool unlimited) const {
    std::vector<int64_t> open;
    for (int64_t e = 0; e < experts; ++e) {
      if (taken[at(t, e)] == 0 && (unlimited || room[static_cast<size_t>(e)] > 0)) {
        open.push_back(e);
      }
    }
    std::ranges::stable_sort(open, [&](int64_t a, int64_t b) { return q[at(t, a)] > q[at(t, b)]; });
    open.resize(std::min(open.size(), static_cast<size_t>(missing[static_cast<size_t>(t)])));
    return open;
  }

  void round(bool unlimited) {
    std::vector<std::vector<int64_t>> askers(static_cast<size_t>(experts));
    for (int64_t t = 0; t < images; ++t) {
      for (const int64_t e : wishes(t, unlimited)) askers[static_cast<size_t>(e)].push_back(t);
    }
    for (int64_t e = 0; e < experts; ++e) {
      std::vector<int64_t>& here = askers[static_cast<size_t>(e)];
      std::ranges::stable_sort(here,
                               [&](int64_t a, int64_t b) { return q[at(a, e)] > q[at(b, e)]; });
      int64_t& left = room[static_cast<size_t>(e)];
      if (!unlimited) here.resize(std::min(here.size(), static_cast<size_t>(left)));
      for (const int64_t t : here) {
        taken[at(t, e)] = 1;
        --missing[static_cast<size_t>(t)];
        --left;
      }
    }
  }

  void run() {
    for (int i = 0; i < kRounds; ++i) {
      if (std::ranges::all_of(missing, [](int64_t m) { return m == 0; })) return;
      round(i + 1 == kRounds);
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
  std::vector<double> scores;
  engine::dispatch_cpu(q, [&]<class T>(Cpu) {
    // NaN is smaller than every number.
    for (int64_t i = 0; i < q.numel(); ++i) {
      const auto x = static_cast<double>(q.data<const T>()[i]);
      scores.push_back(std::isnan(x) ? -INFINITY : x);
    }
  });
  Assignment a{scores, images, experts, k,
               std::vector<int64_t>(static_cast<size_t>(experts), capacity)};
  a.run();
  Tensor chosen = tape.arena().empty({images, k}, Dtype::kI32);
  auto* out = chosen.data<int32_t>();
  for (int64_t t = 0; t < images; ++t) {
    std::vector<int32_t> mine;
    for (int64_t e = 0; e < experts; ++e) {
      if (a.taken[a.at(t, e)] != 0) mine.push_back(static_cast<int32_t>(e));
    }
    std::ranges::stable_sort(
        mine, [&](int32_t x, int32_t y) { return scores[a.at(t, x)] > scores[a.at(t, y)]; });
    std::ranges::copy(mine, out + t * k);
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
