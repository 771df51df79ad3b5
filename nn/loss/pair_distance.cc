#include "nn/loss/pair_distance.h"

#include "engine/core/device_memory.h"
#include "nn/loss/pair_distance_kernels.h"

namespace nn {

using engine::check;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

Tensor pair_distance(const Tensor& x, const Tensor& left_rows, const Tensor& right_rows,
                     int64_t count, Distance kind, const Tensor& number) {
  check(x.tape() != nullptr, ErrorKind::kValue, "pair_distance: input is not on a tape");
  check(x.shape().rank() == 2, ErrorKind::kShape, "pair_distance: expected (N, E), got ",
        x.shape());
  const engine::RowsCols size = engine::fold_rows(x.shape());
  check(!number.defined() || x.device() == engine::Device::kCuda, ErrorKind::kDevice,
        "pair_distance: a number of pairs in memory is for CUDA devices");
  Tensor loss = x.tape()->arena().empty({1}, x.dtype());
  if (count == 0) {
    engine::device_zero(loss.device(), loss.raw(), loss.bytes());
    return x.tape()->input(loss);
  }
  const kernels::RowPairs pairs{left_rows.data<const int32_t>(), right_rows.data<const int32_t>(),
                                count, number.defined() ? number.data<const int32_t>() : nullptr};
  engine::dispatch(x, [&]<class T>(auto backend) {
    kernels::pair_distance_forward(backend, x.data<const T>(), pairs, size, kind, loss.data<T>());
  });
  x.tape()->record("pair_distance", {x}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    engine::dispatch(x, [&]<class T>(auto backend) {
      kernels::pair_distance_backward(backend, x.data<const T>(), pairs, size, kind,
                                      dy.data<const T>(), dx.data<T>());
    });
  });
  return loss;
}

}  // namespace nn
