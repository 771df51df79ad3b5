#include "engine/ops/top_k.h"

#include "engine/core/backend.h"
#include "engine/core/parallel.h"

namespace engine {
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

Tensor top_k(const Tensor& x, int64_t k) {
  check(x.tape() != nullptr, ErrorKind::kValue, "top_k: input is not on a tape");
  check(x.shape().rank() == 2, ErrorKind::kShape, "top_k: expected (N, E), got ", x.shape());
  const RowsCols size = fold_rows(x.shape());
  check(k >= 1 && k <= size.cols, ErrorKind::kValue, "top_k: k = ", k, " of ", size.cols,
        " entries");
  const Tensor y = x.tape()->arena().empty({size.rows, k}, Dtype::kI32);
  dispatch_cpu(x, [&]<class T>(Cpu) {
    const T* in = x.data<const T>();
    int32_t* out = y.data<int32_t>();
    parallel_for(size.rows, rows_per_grain(size.cols * k), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        top_k_row(in + r * size.cols, size.cols, k, out + r * k);
    });
  });
  return x.tape()->input(y);
}

Tensor pick(const Tensor& x, const Tensor& index) {
  check(x.tape() != nullptr, ErrorKind::kValue, "pick: input is not on a tape");
  check(x.shape().rank() == 2 && index.shape().rank() == 2 && x.shape()[0] == index.shape()[0],
        ErrorKind::kShape, "pick: expected x (N, E) and index (N, K), got ", x.shape(), " and ",
        index.shape());
  const RowsCols size = fold_rows(x.shape());
  const int64_t k = index.shape()[1];
  const int32_t* at = index.data<const int32_t>();
  for (int64_t i = 0; i < index.numel(); ++i) {
    check(at[i] >= -1 && at[i] < size.cols, ErrorKind::kValue, "pick: index ", at[i], " of ",
          size.cols, " entries");
  }
  Tensor y = x.tape()->arena().empty({size.rows, k}, x.dtype());
  dispatch_cpu(x, [&]<class T>(Cpu) {
    const T* in = x.data<const T>();
    T* out = y.data<T>();
    for (int64_t i = 0; i < size.rows * k; ++i) {
      out[i] = at[i] < 0 ? T(0) : in[i / k * size.cols + at[i]];
    }
  });
  x.tape()->record("pick", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    dispatch_cpu(x, [&]<class T>(Cpu) {
      const T* g = dy.data<const T>();
      T* out = dx.data<T>();
      for (int64_t i = 0; i < size.rows * k; ++i) {
        if (at[i] >= 0) out[i / k * size.cols + at[i]] += g[i];
      }
    });
  });
  return y;
}

}  // namespace engine
