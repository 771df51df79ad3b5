#include "engine/core/parallel.h"
#include "engine/ops/softmax_kernels.h"
#include "engine/ops/softmax_rows.h"

namespace engine::kernels {

template <class T>
void softmax_forward(Cpu, const T* x, T* y, RowsCols size) {
  parallel_for(size.rows, rows_per_grain(size.cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      simd::softmax_row(x + r * size.cols, y + r * size.cols, size.cols, T(1));
    }
  });
}

template <class T>
void softmax_backward(Cpu, const T* y, const T* dy, T* dx, RowsCols size, GradWrite write) {
  const bool accumulate = write == GradWrite::kAccumulate;
  parallel_for(size.rows, rows_per_grain(size.cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r * size.cols;
      simd::softmax_row_backward(y + at, dy + at, dx + at, size.cols, T(1), accumulate);
    }
  });
}

template void softmax_forward(Cpu, const float*, float*, RowsCols);
template void softmax_forward(Cpu, const double*, double*, RowsCols);
template void softmax_backward(Cpu, const float*, const float*, float*, RowsCols, GradWrite);
template void softmax_backward(Cpu, const double*, const double*, double*, RowsCols, GradWrite);

}  // namespace engine::kernels
