#include "moe/balance_loss.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"
#include "nn/loss/token_groups.h"

namespace moe {

using engine::check;
using engine::Cpu;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

double cv_squared(std::span<const double> v) {
  const double n = static_cast<double>(v.size());
  double mean = 0, var = 0;
  for (const double x : v) mean += x / n;
  for (const double x : v) var += (x - mean) * (x - mean) / n;
  return mean == 0 ? 0 : var / (mean * mean);
}

void cv_squared_grad(std::span<const double> v, std::span<double> grad) {
  const double n = static_cast<double>(v.size());
  double mean = 0, var = 0;
  for (const double x : v) mean += x / n;
  for (const double x : v) var += (x - mean) * (x - mean) / n;
  for (size_t i = 0; i < v.size(); ++i) {
    grad[i] =
        mean == 0 ? 0 : 2 / n * (v[i] - mean) / (mean * mean) - 2 * var / (n * mean * mean * mean);
  }
}

namespace {

// Mean over groups of CV^2 of the rows of sums (groups, E); the gradient into dsums.
double mean_cv_squared(const nn::Groups& g, const double* sums, double* dsums) {
  double loss = 0;
  const size_t e = static_cast<size_t>(g.experts);
  for (int64_t i = 0; i < g.count; ++i) {
    loss += cv_squared({sums + i * g.experts, e}) / static_cast<double>(g.count);
    cv_squared_grad({sums + i * g.experts, e}, {dsums + i * g.experts, e});
    for (int64_t c = 0; c < g.experts; ++c)
      dsums[i * g.experts + c] /= static_cast<double>(g.count);
  }
  return loss;
}

// z and the index of the K-th largest noisy logit of one token.
template <class T>
int64_t kth_largest(const T* row, int64_t experts, int64_t k) {
  for (int64_t e = 0; e < experts; ++e) {
    int64_t before = 0;  // entries ranked above e
    for (int64_t i = 0; i < experts; ++i) before += row[i] > row[e] || (row[i] == row[e] && i < e);
    if (before == k - 1) return e;
  }
  return 0;  // only with NaN logits
}

double normal_density(double z) { return 0.3989422804014327 * std::exp(-0.5 * z * z); }
double normal_upper(double z) { return 0.5 * std::erfc(z * 0.7071067811865476); }

}  // namespace

Tensor importance_loss(const Tensor& clean, int64_t group_tokens) {
  const nn::Groups g = nn::check_groups("importance_loss", clean, group_tokens);
  engine::StepArena& arena = clean.tape()->arena();
  Tensor loss = arena.empty({1}, clean.dtype());
  const Tensor sums = arena.empty({g.count, g.experts}, Dtype::kF64);
  const Tensor dsums = arena.empty({g.count, g.experts}, Dtype::kF64);
  engine::dispatch_cpu(clean, [&]<class T>(Cpu) {
    const T* x = clean.data<const T>();
    double* s = sums.data<double>();
    std::fill_n(s, sums.numel(), 0.0);
    for (int64_t t = 0; t < g.count * g.tokens; ++t) {
      for (int64_t e = 0; e < g.experts; ++e) {
        s[t / g.tokens * g.experts + e] += static_cast<double>(x[t * g.experts + e]);
      }
    }
    loss.data<T>()[0] = static_cast<T>(mean_cv_squared(g, s, dsums.data<double>()));
  });
  clean.tape()->record("importance_loss", {clean}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(clean);
    engine::dispatch_cpu(clean, [&]<class T>(Cpu) {
      const double seed = static_cast<double>(dy.data<const T>()[0]);
      const double* ds = dsums.data<const double>();
      T* out = dx.data<T>();
      for (int64_t t = 0; t < g.count * g.tokens; ++t) {
        for (int64_t e = 0; e < g.experts; ++e) {
          out[t * g.experts + e] += static_cast<T>(seed * ds[t / g.tokens * g.experts + e]);
        }
      }
    });
  });
  return loss;
}

Tensor load_loss(const Tensor& logits, const Tensor& noisy_logits, int64_t top_k, double sigma,
                 int64_t group_tokens) {
  const nn::Groups g = nn::check_groups("load_loss", logits, group_tokens);
  check(sigma > 0, ErrorKind::kValue, "load_loss: needs router noise, sigma = ", sigma);
  check(top_k >= 1 && top_k <= g.experts, ErrorKind::kValue, "load_loss: top_k = ", top_k, " of ",
        g.experts, " experts");
  check(noisy_logits.shape() == logits.shape(), ErrorKind::kShape, "load_loss: logits ",
        logits.shape(), " and noisy logits ", noisy_logits.shape());
  engine::StepArena& arena = logits.tape()->arena();
  Tensor loss = arena.empty({1}, logits.dtype());
  const Tensor p = arena.empty({g.count, g.experts}, Dtype::kF64);
  const Tensor dp = arena.empty({g.count, g.experts}, Dtype::kF64);
  engine::dispatch_cpu(logits, [&]<class T>(Cpu) {
    const T *l = logits.data<const T>(), *noisy = noisy_logits.data<const T>();
    double* sums = p.data<double>();
    std::fill_n(sums, p.numel(), 0.0);
    for (int64_t t = 0; t < g.count * g.tokens; ++t) {
      const double tau =
          noisy[t * g.experts + kth_largest(noisy + t * g.experts, g.experts, top_k)];
      for (int64_t e = 0; e < g.experts; ++e) {
        const double z = (tau - static_cast<double>(l[t * g.experts + e])) / sigma;
        sums[t / g.tokens * g.experts + e] += normal_upper(z) / static_cast<double>(g.tokens);
      }
    }
    loss.data<T>()[0] = static_cast<T>(mean_cv_squared(g, sums, dp.data<double>()));
  });
  logits.tape()->record(
      "load_loss", {logits, noisy_logits}, loss, [=](const Tensor& dy, Tape& tape) {
        engine::dispatch_cpu(logits, [&]<class T>(Cpu) {
          const T *l = logits.data<const T>(), *noisy = noisy_logits.data<const T>();
          T* dl = tape.wants_grad(logits) ? tape.target_zeroed(logits).template data<T>() : nullptr;
          T* dn = tape.wants_grad(noisy_logits)
                      ? tape.target_zeroed(noisy_logits).template data<T>()
                      : nullptr;
          const double seed = static_cast<double>(dy.data<const T>()[0]);
          const double* slope = dp.data<const double>();
          for (int64_t t = 0; t < g.count * g.tokens; ++t) {
            const int64_t kth = kth_largest(noisy + t * g.experts, g.experts, top_k);
            const double tau = noisy[t * g.experts + kth];
            double dtau = 0;
            for (int64_t e = 0; e < g.experts; ++e) {
              const double z = (tau - static_cast<double>(l[t * g.experts + e])) / sigma;
              const double d = seed * slope[t / g.tokens * g.experts + e] * normal_density(z) /
                               (sigma * static_cast<double>(g.tokens));
              if (dl != nullptr) dl[t * g.experts + e] += static_cast<T>(d);
              dtau -= d;
            }
            if (dn != nullptr) dn[t * g.experts + kth] += static_cast<T>(dtau);
          }
        });
      });
  return loss;
}

}  // namespace moe
