#include <cmath>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/ops/unit_rows_kernels.h"

namespace engine::kernels {
namespace {

using simd::load_n;

template <class T>
T dot(const T* a, const T* b, int64_t count) {
  return simd::reduce_sum<T>(
      count, [=](int64_t i, int64_t n) { return simd::mul(load_n(a + i, n), load_n(b + i, n)); });
}

}  // namespace

template <class T>
void unit_rows_forward(Cpu, const T* x, const T* factor, T* y, T* norms, RowsCols size,
                       double eps) {
  const int64_t cols = size.cols;
  const T by = factor != nullptr ? *factor : T(1);
  parallel_for(size.rows, rows_per_grain(cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x + r * cols;
      norms[r] = T(1) / std::sqrt(dot(in, in, cols) + static_cast<T>(eps));
      const T scale = by * norms[r];
      for (int64_t c = 0; c < cols; ++c) y[r * cols + c] = scale * in[c];
    }
  });
}

template <class T>
void unit_rows_backward(Cpu, const T* x, const T* factor, const T* norms, const T* dy, T* dx,
                        RowsCols size, GradWrite write) {
  const int64_t cols = size.cols;
  const T by = factor != nullptr ? *factor : T(1);
  parallel_for(size.rows, rows_per_grain(cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T *in = x + r * cols, *g = dy + r * cols;
      T* out = dx + r * cols;
      const T scale = by * norms[r], along = norms[r] * norms[r] * dot(in, g, cols);
      for (int64_t c = 0; c < cols; ++c) {
        const T d = scale * (g[c] - along * in[c]);
        out[c] = write == GradWrite::kAccumulate ? out[c] + d : d;
      }
    }
  });
}

template <class T>
void unit_rows_backward_factor(Cpu, const T* x, const T* norms, const T* dy, T* dfactor,
                               RowsCols size, GradWrite write) {
  double partial[kReduceChunks] = {};
  double* sums = partial;
  parallel_for(kReduceChunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const ChunkRange rows = reduce_chunk(size.rows, chunk);
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        const T product = norms[r] * dot(x + r * size.cols, dy + r * size.cols, size.cols);
        sums[chunk] += static_cast<double>(product);
      }
    }
  });
  double total = write == GradWrite::kAccumulate ? static_cast<double>(*dfactor) : 0;
  for (const double sum : partial) total += sum;
  *dfactor = static_cast<T>(total);
}

template void unit_rows_forward(Cpu, const float*, const float*, float*, float*, RowsCols, double);
template void unit_rows_forward(Cpu, const double*, const double*, double*, double*, RowsCols,
                                double);
template void unit_rows_backward(Cpu, const float*, const float*, const float*, const float*,
                                 float*, RowsCols, GradWrite);
template void unit_rows_backward(Cpu, const double*, const double*, const double*, const double*,
                                 double*, RowsCols, GradWrite);
template void unit_rows_backward_factor(Cpu, const float*, const float*, const float*, float*,
                                        RowsCols, GradWrite);
template void unit_rows_backward_factor(Cpu, const double*, const double*, const double*, double*,
                                        RowsCols, GradWrite);

}  // namespace engine::kernels
