#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/ops/batched_kernels.h"

namespace engine::kernels {

template <class T>
void batched_gemm(Cpu, Trans ta, Trans tx, int64_t batch, GemmSize size, const T* a, const T* x,
                  T* c, GradWrite write, Precision precision) {
  const int64_t m = size.m, n = size.n, k = size.k;
  const int64_t lda = ta == Trans::kNo ? k : m, ldx = tx == Trans::kNo ? n : k;
  parallel_for(batch, 1, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      gemm_serial<T>(ta, tx, size, a + b * m * k, lda, x + b * k * n, ldx, c + b * m * n, n, write,
                     precision);
    }
  });
}

template <class T>
void put_transposed(Cpu, const T* x, T* y, int64_t batch, RowsCols size, GradWrite write) {
  const int64_t rows = size.rows, cols = size.cols;
  // Square tiles, so that neither side is walked in long strides only.
  constexpr int64_t kTile = 16;
  const int64_t strips = (rows + kTile - 1) / kTile;
  parallel_for(batch * strips, rows_per_grain(kTile * cols), [=](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const T* in = x + s / strips * rows * cols;
      T* out = y + s / strips * rows * cols;
      const int64_t first = s % strips * kTile, last = std::min(rows, first + kTile);
      for (int64_t c = 0; c < cols; ++c) {
        for (int64_t r = first; r < last; ++r) {
          T& to = out[c * rows + r];
          to = write == GradWrite::kAccumulate ? to + in[r * cols + c] : in[r * cols + c];
        }
      }
    }
  });
}

template void batched_gemm(Cpu, Trans, Trans, int64_t, GemmSize, const float*, const float*, float*,
                           GradWrite, Precision);
template void batched_gemm(Cpu, Trans, Trans, int64_t, GemmSize, const double*, const double*,
                           double*, GradWrite, Precision);
template void put_transposed(Cpu, const float*, float*, int64_t, RowsCols, GradWrite);
template void put_transposed(Cpu, const double*, double*, int64_t, RowsCols, GradWrite);

}  // namespace engine::kernels
