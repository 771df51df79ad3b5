#pragma once

#include <cmath>

#include "engine/core/backend.h"
#include "moe/cnn/image_balance.h"

// Raw kernels of image_balance.h, which has the formulas. constexpr functions serve both backends.
namespace moe::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::RowsCols;

// Sums over the images t of one column e of the scores.
struct Column {
  double first = 0;      // f_e
  double mean = 0;       // P_e
  double own = 0;        // mean of -s_te ln s_te, of kEntropy alone
  double deviation = 0;  // std_t(s_te)
};

template <class P>
constexpr double log_of(P p) {
  return p > 0 ? std::log(static_cast<double>(p)) : std::log(1e-5);
}

// What a column adds to the loss, which is this and, of kSwitch, -1.
template <class C>
constexpr double column_loss(const C& c, ImageBalance kind, RowsCols size) {
  if (kind == ImageBalance::kColumnEntropy) return c.mean * log_of(c.mean);
  if (kind == ImageBalance::kEntropy) return c.own + c.mean * log_of(c.mean);
  const auto n = static_cast<double>(size.cols);
  return n * c.first * c.mean - (kind == ImageBalance::kVariance ? c.deviation / n : 0);
}

// d loss / d s_te, where that is p.
template <class C>
constexpr double column_slope(const C& c, double p, ImageBalance kind, RowsCols size) {
  const auto images = static_cast<double>(size.rows), n = static_cast<double>(size.cols);
  // d(p ln p) / dp, as p ln p is computed.
  const auto log_slope = [](double x) { return log_of(x) + (x > 0 ? 1 : 0); };
  if (kind == ImageBalance::kColumnEntropy) return log_slope(c.mean) / images;
  if (kind == ImageBalance::kEntropy) return (log_slope(c.mean) - log_slope(p)) / images;
  const double spread = kind == ImageBalance::kVariance && c.deviation > 0
                            ? (p - c.mean) / ((images - 1) * c.deviation * n)
                            : 0;
  return n * c.first / images - spread;
}

// s (T, N); slopes (N, T): d loss / d s; loss (1)
template <class T>
void image_balance_forward(Cpu, const T* s, RowsCols size, ImageBalance kind, double* slopes,
                           T* loss);
template <class T>
void image_balance_forward(Cuda, const T* s, RowsCols size, ImageBalance kind, double* slopes,
                           T* loss);
// ds += dy[0] slopes
template <class T>
void image_balance_backward(Cpu, const double* slopes, RowsCols size, const T* dy, T* ds);
template <class T>
void image_balance_backward(Cuda, const double* slopes, RowsCols size, const T* dy, T* ds);

// What the experts returned: rows of expert e from offset[e] on.
struct ExpertRows {
  const int32_t* offset;  // (experts + 1)
  int64_t experts, rows, width;
};

// The loss of the experts' means m, in the place of which it puts d loss / d m.
template <class T>
constexpr T spread_of(const int32_t* offset, int64_t experts, double* m) {
  const auto got = [&](int64_t e) { return offset[e + 1] > offset[e]; };
  double used = 0, mean = 0, var = 0;
  for (int64_t e = 0; e < experts; ++e) {
    used += got(e) ? 1 : 0;
    mean += m[e];
  }
  mean /= used > 1 ? used : 1.0;
  for (int64_t e = 0; e < experts; ++e) var += got(e) ? (m[e] - mean) * (m[e] - mean) : 0;
  const double root = used > 1 ? std::sqrt(var / (used - 1) + 1e-4) : 1;
  for (int64_t e = 0; e < experts; ++e) {
    m[e] = used > 1 && root < 1 && got(e) ? -(m[e] - mean) / ((used - 1) * root) : 0;
  }
  return static_cast<T>(root < 1 ? 1 - root : 0.0);
}

// outputs (rows, width); slope (experts): d loss / d mean; loss (1)
template <class T>
void expert_spread_forward(Cpu, const T* outputs, const ExpertRows& size, double* slope, T* loss);
template <class T>
void expert_spread_forward(Cuda, const T* outputs, const ExpertRows& size, double* slope, T* loss);
// doutputs += the gradient
template <class T>
void expert_spread_backward(Cpu, const double* slope, const ExpertRows& size, const T* dy,
                            T* doutputs);
template <class T>
void expert_spread_backward(Cuda, const double* slope, const ExpertRows& size, const T* dy,
                            T* doutputs);

}  // namespace moe::kernels
