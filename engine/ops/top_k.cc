#include "engine/ops/top_k.h"

#include "engine/ops/top_k_kernels.h"

namespace engine {

Tensor top_k(const Tensor& x, int64_t k) {
  check(x.tape() != nullptr, ErrorKind::kValue, "top_k: input is not on a tape");
  check(x.shape().rank() == 2, ErrorKind::kShape, "top_k: expected (N, E), got ", x.shape());
  const RowsCols size = fold_rows(x.shape());
  check(k >= 1 && k <= size.cols, ErrorKind::kValue, "top_k: k = ", k, " of ", size.cols,
        " entries");
  const Tensor y = x.tape()->arena().empty({size.rows, k}, Dtype::kI32);
  dispatch(x, [&]<class T>(auto backend) {
    kernels::top_k_forward(backend, x.data<const T>(), y.data<int32_t>(), size, k);
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
  if (index.device() == Device::kCpu) {
    for (int64_t i = 0; i < index.numel(); ++i) {
      check(at[i] >= -1 && at[i] < size.cols, ErrorKind::kValue, "pick: index ", at[i], " of ",
            size.cols, " entries");
    }
  }
  Tensor y = x.tape()->arena().empty({size.rows, k}, x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    kernels::pick_forward(backend, x.data<const T>(), at, y.data<T>(), size, k);
  });
  x.tape()->record("pick", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    dispatch(x, [&]<class T>(auto backend) {
      kernels::pick_backward(backend, at, dy.data<const T>(), dx.data<T>(), size, k);
    });
  });
  return y;
}

}  // namespace engine
