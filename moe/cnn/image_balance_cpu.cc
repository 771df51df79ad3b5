#include <algorithm>
#include <cmath>

#include "moe/cnn/image_balance_kernels.h"

namespace moe::kernels {
namespace {

template <class T>
Column column_of(const T* s, RowsCols size, int64_t e, ImageBalance kind) {
  Column c;
  const auto n = static_cast<double>(size.rows);
  for (int64_t t = 0; t < size.rows; ++t) {
    const T* row = s + t * size.cols;
    const auto p = static_cast<double>(row[e]);
    c.first += std::max_element(row, row + size.cols) - row == e ? 1 / n : 0;
    c.mean += p / n;
    if (kind == ImageBalance::kEntropy) c.own -= p * log_of(p) / n;
  }
  for (int64_t t = 0; t < size.rows && size.rows > 1; ++t) {
    const double d = static_cast<double>(s[t * size.cols + e]) - c.mean;
    c.deviation += d * d / (n - 1);
  }
  c.deviation = std::sqrt(c.deviation);
  return c;
}

}  // namespace

template <class T>
void image_balance_forward(Cpu, const T* s, RowsCols size, ImageBalance kind, double* slopes,
                           T* loss) {
  double sum = kind == ImageBalance::kSwitch ? -1 : 0;  // and -1 + 1 with kVariance
  for (int64_t e = 0; e < size.cols; ++e) {
    const Column c = column_of(s, size, e, kind);
    sum += column_loss(c, kind, size);
    for (int64_t t = 0; t < size.rows; ++t) {
      const auto p = static_cast<double>(s[t * size.cols + e]);
      slopes[e * size.rows + t] = column_slope(c, p, kind, size);
    }
  }
  loss[0] = static_cast<T>(sum);
}

template <class T>
void image_balance_backward(Cpu, const double* slopes, RowsCols size, const T* dy, T* ds) {
  const auto seed = static_cast<double>(dy[0]);
  for (int64_t t = 0; t < size.rows; ++t) {
    for (int64_t e = 0; e < size.cols; ++e) {
      ds[t * size.cols + e] += static_cast<T>(seed * slopes[e * size.rows + t]);
    }
  }
}

template <class T>
void expert_spread_forward(Cpu, const T* outputs, const ExpertRows& size, double* slope, T* loss) {
  for (int64_t e = 0; e < size.experts; ++e) {
    const int64_t count = (size.offset[e + 1] - size.offset[e]) * size.width;
    const T* from = outputs + size.offset[e] * size.width;
    slope[e] = 0;
    for (int64_t i = 0; i < count; ++i) slope[e] += static_cast<double>(from[i]);
    if (count > 0) slope[e] /= static_cast<double>(count);
  }
  loss[0] = spread_of<T>(size.offset, size.experts, slope);
}

template <class T>
void expert_spread_backward(Cpu, const double* slope, const ExpertRows& size, const T* dy,
                            T* doutputs) {
  const auto seed = static_cast<double>(dy[0]);
  for (int64_t e = 0; e < size.experts; ++e) {
    const int64_t count = (size.offset[e + 1] - size.offset[e]) * size.width;
    if (count == 0) continue;
    const double each = seed * slope[e] / static_cast<double>(count);
    T* g = doutputs + size.offset[e] * size.width;
    for (int64_t i = 0; i < count; ++i) g[i] += static_cast<T>(each);
  }
}

template void image_balance_forward(Cpu, const float*, RowsCols, ImageBalance, double*, float*);
template void image_balance_forward(Cpu, const double*, RowsCols, ImageBalance, double*, double*);
template void image_balance_backward(Cpu, const double*, RowsCols, const float*, float*);
template void image_balance_backward(Cpu, const double*, RowsCols, const double*, double*);
template void expert_spread_forward(Cpu, const float*, const ExpertRows&, double*, float*);
template void expert_spread_forward(Cpu, const double*, const ExpertRows&, double*, double*);
template void expert_spread_backward(Cpu, const double*, const ExpertRows&, const float*, float*);
template void expert_spread_backward(Cpu, const double*, const ExpertRows&, const double*, double*);

}  // namespace moe::kernels
