#include "engine/core/parallel.h"
#include "engine/ops/top_k_kernels.h"

namespace engine::kernels {
namespace {

// k passes over the row: k is small and rows are short (E experts).
template <class T>
void top_k_row(const T* x, int64_t cols, int64_t k, int32_t* index) {
  for (int64_t j = 0; j < k; ++j) {
    int32_t best = -1;
    for (int32_t c = 0; c < cols; ++c) {
      bool taken = false;
      for (int64_t i = 0; i < j; ++i) taken |= index[i] == c;
      if (!taken && (best < 0 || x[c] > x[best] || (x[best] != x[best] && x[c] == x[c]))) {
        best = c;
      }
    }
    index[j] = best;
  }
}

}  // namespace

template <class T>
void top_k_forward(Cpu, const T* x, int32_t* index, RowsCols size, int64_t k) {
  parallel_for(size.rows, rows_per_grain(size.cols * k), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) top_k_row(x + r * size.cols, size.cols, k, index + r * k);
  });
}

template <class T>
void pick_forward(Cpu, const T* x, const int32_t* index, T* y, RowsCols size, int64_t k) {
  for (int64_t i = 0; i < size.rows * k; ++i) {
    y[i] = index[i] < 0 ? T(0) : x[i / k * size.cols + index[i]];
  }
}

template <class T>
void pick_backward(Cpu, const int32_t* index, const T* dy, T* dx, RowsCols size, int64_t k) {
  for (int64_t i = 0; i < size.rows * k; ++i) {
    if (index[i] >= 0) dx[i / k * size.cols + index[i]] += dy[i];
  }
}

template void top_k_forward(Cpu, const float*, int32_t*, RowsCols, int64_t);
template void top_k_forward(Cpu, const double*, int32_t*, RowsCols, int64_t);
template void pick_forward(Cpu, const float*, const int32_t*, float*, RowsCols, int64_t);
template void pick_forward(Cpu, const double*, const int32_t*, double*, RowsCols, int64_t);
template void pick_backward(Cpu, const int32_t*, const float*, float*, RowsCols, int64_t);
template void pick_backward(Cpu, const int32_t*, const double*, double*, RowsCols, int64_t);

}  // namespace engine::kernels
