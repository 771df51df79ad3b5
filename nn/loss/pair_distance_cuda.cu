#include <cmath>

#include "nn/loss/fixed_sums.cuh"
#include "nn/loss/pair_distance_kernels.h"
#include "nn/loss/row_links.cuh"

namespace nn::kernels {
namespace {

// p log(p / m), 0 for p = 0.
__device__ inline double relative(double p, double m) { return p > 0 ? p * ::log(p / m) : 0; }

template <class T>
__device__ double distance(const T* a, const T* b, int64_t cols, Distance kind) {
  double sum = 0;
  for (int64_t c = 0; c < cols; ++c) {
    const auto p = static_cast<double>(a[c]), q = static_cast<double>(b[c]);
    const double m = 0.5 * (p + q);
    sum += kind == Distance::kL2 ? (p - q) * (p - q) : 0.5 * (relative(p, m) + relative(q, m));
  }
  return kind == Distance::kL2 ? ::sqrt(sum) : sum;
}

// What the mean divides by: 1 where there is nothing to add up.
__device__ double number_of(const RowPairs& pairs) {
  const int64_t n = pairs.number != nullptr ? int64_t{*pairs.number} : pairs.count;
  return n > 0 ? static_cast<double>(n) : 1;
}

}  // namespace

template <class T>
void pair_distance_forward(Cuda on, const T* x, const RowPairs& pairs, RowsCols size, Distance kind,
                           T* loss) {
  launch_total(
      on, pairs.count,
      [=] __device__(int64_t n) -> double {
        if (pairs.left[n] < 0) return 0;
        return distance(x + pairs.left[n] * size.cols, x + pairs.right[n] * size.cols, size.cols,
                        kind);
      },
      [=] __device__(double sum) { loss[0] = static_cast<T>(sum / number_of(pairs)); });
}

// Column c of a row's gradient, gathered from the pairs that the row is in, in their order.
template <class T>
void pair_distance_backward(Cuda on, const T* x, const RowPairs& pairs, RowsCols size,
                            Distance kind, const T* dy, T* dx) {
  const int64_t cols = size.cols, lengths_bytes = pairs.count * int64_t{sizeof(double)};
  auto* lengths = static_cast<double*>(
      engine::cuda_workspace(lengths_bytes + row_links_bytes(size.rows, pairs.count)));
  const RowLinks links =
      link_rows(on, pairs.left, pairs.right, size.rows, pairs.count, lengths + pairs.count);
  if (kind == Distance::kL2) {
    engine::launch_each(on, pairs.count, [=] __device__(int64_t n) {
      if (pairs.left[n] < 0) return;
      lengths[n] = distance(x + pairs.left[n] * cols, x + pairs.right[n] * cols, cols, kind);
    });
  }
  engine::launch_each(on, size.numel(), [=] __device__(int64_t at) {
    const double seed = static_cast<double>(dy[0]) / number_of(pairs);
    const auto p = static_cast<double>(x[at]);
    links.each(at / cols, [&](int64_t member) {
      const int64_t n = member / 2;
      const int64_t other = member % 2 == 0 ? pairs.right[n] : pairs.left[n];
      const auto q = static_cast<double>(x[other * cols + at % cols]);
      if (kind == Distance::kL2) {
        if (lengths[n] != 0) dx[at] += static_cast<T>(seed * (p - q) / lengths[n]);
      } else if (p > 0) {
        dx[at] += static_cast<T>(seed * 0.5 * ::log(p / (0.5 * (p + q))));
      }
    });
  });
}

template void pair_distance_forward(Cuda, const float*, const RowPairs&, RowsCols, Distance,
                                    float*);
template void pair_distance_forward(Cuda, const double*, const RowPairs&, RowsCols, Distance,
                                    double*);
template void pair_distance_backward(Cuda, const float*, const RowPairs&, RowsCols, Distance,
                                     const float*, float*);
template void pair_distance_backward(Cuda, const double*, const RowPairs&, RowsCols, Distance,
                                     const double*, double*);

}  // namespace nn::kernels
