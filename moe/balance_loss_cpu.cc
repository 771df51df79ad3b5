#include <algorithm>
#include <cmath>

#include "moe/balance_loss.h"
#include "moe/balance_loss_kernels.h"

namespace moe::kernels {
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

// The index of the K-th largest noisy logit of one token.
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

template <class T>
void importance_forward(Cpu, const T* clean, const nn::Groups& g, double* sums, double* slope,
                        T* loss) {
  std::fill_n(sums, g.count * g.experts, 0.0);
  for (int64_t t = 0; t < g.count * g.tokens; ++t) {
    for (int64_t e = 0; e < g.experts; ++e) {
      sums[t / g.tokens * g.experts + e] += static_cast<double>(clean[t * g.experts + e]);
    }
  }
  loss[0] = static_cast<T>(mean_cv_squared(g, sums, slope));
}

template <class T>
void load_forward(Cpu, const T* logits, const T* noisy, const nn::Groups& g, const LoadRule& rule,
                  int32_t* kth, double* sums, double* slope, T* loss) {
  std::fill_n(sums, g.count * g.experts, 0.0);
  for (int64_t t = 0; t < g.count * g.tokens; ++t) {
    const int64_t row = t * g.experts, own = kth_largest(noisy + row, g.experts, rule.top_k);
    kth[t] = static_cast<int32_t>(own);
    const double tau = noisy[row + own];
    for (int64_t e = 0; e < g.experts; ++e) {
      const double z = (tau - static_cast<double>(logits[row + e])) / rule.sigma;
      sums[t / g.tokens * g.experts + e] += normal_upper(z) / static_cast<double>(g.tokens);
    }
  }
  loss[0] = static_cast<T>(mean_cv_squared(g, sums, slope));
}

template <class T>
void load_backward(Cpu, const T* logits, const T* noisy, const nn::Groups& g, const LoadRule& rule,
                   const int32_t* kth, const double* slope, const T* dy, T* dlogits, T* dnoisy) {
  const double seed = static_cast<double>(dy[0]);
  for (int64_t t = 0; t < g.count * g.tokens; ++t) {
    const int64_t row = t * g.experts;
    const double tau = noisy[row + kth[t]];
    double dtau = 0;
    for (int64_t e = 0; e < g.experts; ++e) {
      const double z = (tau - static_cast<double>(logits[row + e])) / rule.sigma;
      const double d = seed * slope[t / g.tokens * g.experts + e] * normal_density(z) /
                       (rule.sigma * static_cast<double>(g.tokens));
      if (dlogits != nullptr) dlogits[row + e] += static_cast<T>(d);
      dtau -= d;
    }
    if (dnoisy != nullptr) dnoisy[row + kth[t]] += static_cast<T>(dtau);
  }
}

template void importance_forward(Cpu, const float*, const nn::Groups&, double*, double*, float*);
template void importance_forward(Cpu, const double*, const nn::Groups&, double*, double*, double*);
template void load_forward(Cpu, const float*, const float*, const nn::Groups&, const LoadRule&,
                           int32_t*, double*, double*, float*);
template void load_forward(Cpu, const double*, const double*, const nn::Groups&, const LoadRule&,
                           int32_t*, double*, double*, double*);
template void load_backward(Cpu, const float*, const float*, const nn::Groups&, const LoadRule&,
                            const int32_t*, const double*, const float*, float*, float*);
template void load_backward(Cpu, const double*, const double*, const nn::Groups&, const LoadRule&,
                            const int32_t*, const double*, const double*, double*, double*);

}  // namespace moe::kernels
