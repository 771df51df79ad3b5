#include "engine/ops/pool.h"

#include "engine/ops/pool_kernels.h"

namespace engine {
namespace {

kernels::PoolSize size_of(const char* op, const Tensor& x, const PoolOptions& o) {
  check(x.tape() != nullptr, ErrorKind::kValue, op, ": input is not on a tape");
  const Shape& in = x.shape();
  check(in.rank() == 4, ErrorKind::kShape, op, ": expected (B, H, W, C), got ", in);
  // A winner's place in its window is kept in a byte.
  check(o.kernel >= 1 && o.kernel <= 15 && o.stride >= 1 && o.padding >= 0 &&
            o.padding <= o.kernel / 2,
        ErrorKind::kValue, op, ": expected a kernel from 1 to 15, stride 1 or more and padding of ",
        "at most half the kernel, got ", o.kernel, ", ", o.stride, ", ", o.padding);
  const int64_t down = in[1] + 2 * o.padding - o.kernel, across = in[2] + 2 * o.padding - o.kernel;
  check(down >= 0 && across >= 0, ErrorKind::kShape, op, ": a window of ", o.kernel,
        " is larger than ", in, " padded by ", o.padding);
  return {in[0],    in[1],    in[2],    in[3], down / o.stride + 1, across / o.stride + 1,
          o.kernel, o.stride, o.padding};
}

Tensor empty_output(const Tensor& x, const kernels::PoolSize& s, Dtype dtype) {
  return x.tape()->arena().empty({s.batch, s.out_h, s.out_w, s.channels}, dtype);
}

}  // namespace

Tensor max_pool2d(const Tensor& x, const PoolOptions& options) {
  const kernels::PoolSize size = size_of("max_pool2d", x, options);
  Tensor y = empty_output(x, size, x.dtype());
  const Tensor winner = empty_output(x, size, Dtype::kU8);
  dispatch(x, [&]<class T>(auto backend) {
    kernels::max_pool_forward(backend, x.data<const T>(), y.data<T>(), winner.data<uint8_t>(),
                              size);
  });
  x.tape()->record("max_pool2d", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    dispatch(dy, [&]<class T>(auto backend) {
      kernels::max_pool_backward(backend, dy.data<const T>(), winner.data<const uint8_t>(),
                                 dx.data<T>(), size);
    });
  });
  return y;
}

Tensor average_pool2d(const Tensor& x, const PoolOptions& options) {
  const kernels::PoolSize size = size_of("average_pool2d", x, options);
  Tensor y = empty_output(x, size, x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    kernels::average_pool_forward(backend, x.data<const T>(), y.data<T>(), size);
  });
  x.tape()->record("average_pool2d", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    dispatch(dy, [&]<class T>(auto backend) {
      kernels::average_pool_backward(backend, dy.data<const T>(), dx.data<T>(), size);
    });
  });
  return y;
}

}  // namespace engine
