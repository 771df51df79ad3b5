#include <cmath>

#include "nn/loss/pair_distance_kernels.h"

namespace nn::kernels {
namespace {

// p log(p / m), 0 for p = 0.
double relative(double p, double m) { return p > 0 ? p * std::log(p / m) : 0; }

template <class T>
double distance(const T* a, const T* b, int64_t experts, Distance kind) {
  double sum = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const auto p = static_cast<double>(a[e]), q = static_cast<double>(b[e]);
    sum += kind == Distance::kL2 ? (p - q) * (p - q)
                                 : 0.5 * (relative(p, 0.5 * (p + q)) + relative(q, 0.5 * (p + q)));
  }
  return kind == Distance::kL2 ? std::sqrt(sum) : sum;
}

// da += seed d distance / da, db likewise.
template <class T>
void add_slopes(const T* a, const T* b, T* da, T* db, int64_t experts, Distance kind, double seed) {
  const double length = kind == Distance::kL2 ? distance(a, b, experts, kind) : 0;
  if (kind == Distance::kL2 && length == 0) return;
  for (int64_t e = 0; e < experts; ++e) {
    const auto p = static_cast<double>(a[e]), q = static_cast<double>(b[e]);
    if (kind == Distance::kL2) {
      da[e] += static_cast<T>(seed * (p - q) / length);
      db[e] -= static_cast<T>(seed * (p - q) / length);
      continue;
    }
    const double m = 0.5 * (p + q);
    if (p > 0) da[e] += static_cast<T>(seed * 0.5 * std::log(p / m));
    if (q > 0) db[e] += static_cast<T>(seed * 0.5 * std::log(q / m));
  }
}

}  // namespace

template <class T>
void pair_distance_forward(Cpu, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                           T* loss) {
  const int64_t cols = size.cols;
  double sum = 0;
  for (int64_t n = 0; n < pairs.count; ++n) {
    sum += distance(x + pairs.left[n] * cols, x + pairs.right[n] * cols, cols, kind);
  }
  loss[0] = static_cast<T>(sum / static_cast<double>(pairs.count));
}

template <class T>
void pair_distance_backward(Cpu, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                            const T* dy, T* dx) {
  const double seed = static_cast<double>(dy[0]) / static_cast<double>(pairs.count);
  for (int64_t n = 0; n < pairs.count; ++n) {
    const int64_t a = pairs.left[n] * size.cols, b = pairs.right[n] * size.cols;
    add_slopes(x + a, x + b, dx + a, dx + b, size.cols, kind, seed);
  }
}

template void pair_distance_forward(Cpu, const float*, const RowPairs&, RowsCols, Distance, float*);
template void pair_distance_forward(Cpu, const double*, const RowPairs&, RowsCols, Distance,
                                    double*);
template void pair_distance_backward(Cpu, const float*, const RowPairs&, RowsCols, Distance,
                                     const float*, float*);
template void pair_distance_backward(Cpu, const double*, const RowPairs&, RowsCols, Distance,
                                     const double*, double*);

}  // namespace nn::kernels
