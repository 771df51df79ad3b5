#include "engine/ops/batched.h"

#include "engine/core/stored.h"
#include "engine/ops/batched_kernels.h"

namespace engine {

using kernels::Trans;

Tensor batched_matmul(const Tensor& a, const Tensor& x, Precision precision) {
  check(a.tape() != nullptr, ErrorKind::kValue, "batched_matmul: input is not on a tape");
  const Shape sa = a.shape(), sx = x.shape();
  check(sa.rank() == 3 && sx.rank() == 3 && sa[0] == sx[0] && sa[2] == sx[1], ErrorKind::kShape,
        "batched_matmul: expected (B, M, K) and (B, K, N), got ", sa, " and ", sx);
  check_product("batched_matmul", a, precision);
  const int64_t batch = sa[0], m = sa[1], k = sa[2], n = sx[2];
  Tensor y = a.tape()->arena().empty({batch, m, n}, a.dtype());
  dispatch_stored(a, [&]<class T>(auto backend) {
    kernels::batched_gemm(backend, Trans::kNo, Trans::kNo, batch, {m, n, k}, a.data<const T>(),
                          x.data<const T>(), y.data<T>(), GradWrite::kOverwrite, precision);
  });
  a.tape()->record("batched_matmul", {a, x}, y, [=](const Tensor& dy, Tape& tape) {
    dispatch_stored(dy, [&]<class T>(auto backend) {
      const T* g = dy.data<const T>();
      if (tape.wants_grad(a)) {
        const GradTarget d = tape.target(a);
        kernels::batched_gemm(backend, Trans::kNo, Trans::kYes, batch, {m, k, n}, g,
                              x.data<const T>(), d.grad.data<T>(), d.write, precision);
      }
      if (tape.wants_grad(x)) {
        const GradTarget d = tape.target(x);
        kernels::batched_gemm(backend, Trans::kYes, Trans::kNo, batch, {k, n, m}, a.data<const T>(),
                              g, d.grad.data<T>(), d.write, precision);
      }
    });
  });
  return y;
}

Tensor transpose(const Tensor& x) {
  check(x.tape() != nullptr, ErrorKind::kValue, "transpose: input is not on a tape");
  const Shape s = x.shape();
  check(s.rank() == 2 || s.rank() == 3, ErrorKind::kShape,
        "transpose: expected (M, N) or (B, M, N), got ", s);
  const RowsCols size{s[-2], s[-1]}, back{s[-1], s[-2]};
  const int64_t batch = s.rank() == 3 ? s[0] : 1;
  const Shape shape = s.rank() == 3 ? Shape{batch, s[2], s[1]} : Shape{s[1], s[0]};
  Tensor y = x.tape()->arena().empty(shape, x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    kernels::put_transposed(backend, x.data<const T>(), y.data<T>(), batch, size,
                            GradWrite::kOverwrite);
  });
  x.tape()->record("transpose", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const GradTarget dx = tape.target(x);
    dispatch(x, [&]<class T>(auto backend) {
      kernels::put_transposed(backend, dy.data<const T>(), dx.grad.data<T>(), batch, back,
                              dx.write);
    });
  });
  return y;
}

}  // namespace engine
