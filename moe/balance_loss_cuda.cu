#include <cmath>

#include "engine/ops/warp.cuh"
#include "moe/balance_loss_kernels.h"
#include "nn/loss/fixed_sums.cuh"

namespace moe::kernels {
namespace {

using engine::kEachThreads;
using engine::kernels::kWarp;
using engine::kernels::warp_sum;

// Loss: the mean over groups of CV^2 of the rows of sums (groups, E); slope: its gradient. One
// block, a warp a group.
template <class T>
__global__ void __launch_bounds__(kEachThreads)
    mean_cv_squared_kernel(nn::Groups g, const double* sums, double* slope, T* loss) {
  const auto n = static_cast<double>(g.experts), groups = static_cast<double>(g.count);
  const int64_t lane = threadIdx.x % kWarp;
  double total = 0;
  for (int64_t i = threadIdx.x / kWarp; i < g.count; i += kEachThreads / kWarp) {
    const double* v = sums + i * g.experts;
    double mean = 0, var = 0;
    for (int64_t e = lane; e < g.experts; e += kWarp) mean += v[e] / n;
    mean = warp_sum(mean);
    for (int64_t e = lane; e < g.experts; e += kWarp) var += (v[e] - mean) * (v[e] - mean) / n;
    var = warp_sum(var);
    for (int64_t e = lane; e < g.experts; e += kWarp) {
      slope[i * g.experts + e] =
          mean == 0 ? 0
                    : (2 / n * (v[e] - mean) / (mean * mean) - 2 * var / (n * mean * mean * mean)) /
                          groups;
    }
    if (lane == 0) total += mean == 0 ? 0 : var / (mean * mean) / groups;
  }
  total = engine::block_sum<kEachThreads>(total);
  if (threadIdx.x == 0) loss[0] = static_cast<T>(total);
}

template <class T>
void put_mean_cv_squared(Cuda on, const nn::Groups& g, const double* sums, double* slope, T* loss) {
  engine::launch(on, 1, kEachThreads, mean_cv_squared_kernel<T>, g, sums, slope, loss);
}

__device__ inline double normal_density(double z) {
  return 0.3989422804014327 * ::exp(-0.5 * z * z);
}
__device__ inline double normal_upper(double z) { return 0.5 * ::erfc(z * 0.7071067811865476); }

// Token t's part of the loss's slope at logit e, without dy.
template <class T>
__device__ double load_slope(const T* logits, double tau, const nn::Groups& g, double sigma,
                             const double* slope, int64_t t, int64_t e) {
  const double z = (tau - static_cast<double>(logits[t * g.experts + e])) / sigma;
  return slope[t / g.tokens * g.experts + e] * normal_density(z) /
         (sigma * static_cast<double>(g.tokens));
}

}  // namespace

template <class T>
void importance_forward(Cuda on, const T* clean, const nn::Groups& g, double* sums, double* slope,
                        T* loss) {
  const int64_t tokens = g.tokens, experts = g.experts;
  nn::kernels::launch_column_sums(
      on, g.count, tokens, experts,
      [=] __device__(int64_t group, int64_t t, int64_t e) -> double {
        return static_cast<double>(clean[(group * tokens + t) * experts + e]);
      },
      [=] __device__(int64_t at, double sum) { sums[at] = sum; });
  put_mean_cv_squared(on, g, sums, slope, loss);
}

template <class T>
void load_forward(Cuda on, const T* logits, const T* noisy, const nn::Groups& g,
                  const LoadRule& rule, int32_t* kth, double* sums, double* slope, T* loss) {
  const int64_t tokens = g.tokens, experts = g.experts, all = g.count * tokens;
  // Every logit counts those ranked before it: one of a row finds K - 1, none only among NaN.
  engine::launch_each(on, all, [=] __device__(int64_t t) { kth[t] = 0; });
  engine::launch_each(on, all * experts, [=] __device__(int64_t at) {
    const int64_t own = at % experts;
    const T *row = noisy + (at - own), mine = row[own];
    int64_t before = 0;
    for (int64_t e = 0; e < experts; ++e) before += row[e] > mine || (row[e] == mine && e < own);
    if (before == rule.top_k - 1) kth[at / experts] = static_cast<int32_t>(own);
  });
  nn::kernels::launch_column_sums(
      on, g.count, tokens, experts,
      [=] __device__(int64_t group, int64_t token, int64_t e) -> double {
        const int64_t t = group * tokens + token;
        const auto tau = static_cast<double>(noisy[t * experts + kth[t]]);
        const double z = (tau - static_cast<double>(logits[t * experts + e])) / rule.sigma;
        return normal_upper(z) / static_cast<double>(tokens);
      },
      [=] __device__(int64_t at, double sum) { sums[at] = sum; });
  put_mean_cv_squared(on, g, sums, slope, loss);
}

template <class T>
void load_backward(Cuda on, const T* logits, const T* noisy, const nn::Groups& g,
                   const LoadRule& rule, const int32_t* kth, const double* slope, const T* dy,
                   T* dlogits, T* dnoisy) {
  const int64_t experts = g.experts, all = g.count * g.tokens;
  const double sigma = rule.sigma;
  if (dlogits != nullptr) {
    engine::launch_each(on, all * experts, [=] __device__(int64_t at) {
      const int64_t t = at / experts;
      const auto tau = static_cast<double>(noisy[t * experts + kth[t]]);
      const double d = load_slope(logits, tau, g, sigma, slope, t, at % experts);
      dlogits[at] += static_cast<T>(static_cast<double>(dy[0]) * d);
    });
  }
  if (dnoisy != nullptr) {
    engine::launch_each(on, all, [=] __device__(int64_t t) {
      const int64_t own = t * experts + kth[t];
      const auto tau = static_cast<double>(noisy[own]);
      double sum = 0;
      for (int64_t e = 0; e < experts; ++e) {
        sum += load_slope(logits, tau, g, sigma, slope, t, e);
      }
      dnoisy[own] -= static_cast<T>(static_cast<double>(dy[0]) * sum);
    });
  }
}

template void importance_forward(Cuda, const float*, const nn::Groups&, double*, double*, float*);
template void importance_forward(Cuda, const double*, const nn::Groups&, double*, double*, double*);
template void load_forward(Cuda, const float*, const float*, const nn::Groups&, const LoadRule&,
                           int32_t*, double*, double*, float*);
template void load_forward(Cuda, const double*, const double*, const nn::Groups&, const LoadRule&,
                           int32_t*, double*, double*, double*);
template void load_backward(Cuda, const float*, const float*, const nn::Groups&, const LoadRule&,
                            const int32_t*, const double*, const float*, float*, float*);
template void load_backward(Cuda, const double*, const double*, const nn::Groups&, const LoadRule&,
                            const int32_t*, const double*, const double*, double*, double*);

}  // namespace moe::kernels
