#include "engine/ops/gather_pixels.h"

#include <algorithm>

#include "engine/ops/gather_pixels_kernels.h"

namespace engine {

Tensor gather_pixels(const Tensor& x, const Tensor& index) {
  check(x.tape() != nullptr, ErrorKind::kValue, "gather_pixels: input is not on a tape");
  const Shape& in = x.shape();
  check(in.rank() == 3 && index.shape().rank() == 1, ErrorKind::kShape,
        "gather_pixels: expected (B, P, C) and (Q), got ", in, " and ", index.shape());
  const kernels::PixelMoves size{in[0], in[1], index.shape()[0], in[2]};
  const auto* from = index.data<const int32_t>();
  if (x.device() == Device::kCpu) {
    check(std::all_of(from, from + size.places,
                      [&](int32_t p) { return p >= -1 && p < size.pixels; }),
          ErrorKind::kValue, "gather_pixels: an index is outside the ", size.pixels, " pixels");
  }
  Tensor y = x.tape()->arena().empty({size.batch, size.places, size.channels}, x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    kernels::gather_pixels_forward(backend, x.data<const T>(), from, y.data<T>(), size);
  });
  x.tape()->record("gather_pixels", {x}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dx = tape.target_zeroed(x);
    dispatch(dy, [&]<class T>(auto backend) {
      kernels::gather_pixels_backward(backend, dy.data<const T>(), index.data<const int32_t>(),
                                      dx.data<T>(), size);
    });
  });
  return y;
}

}  // namespace engine
