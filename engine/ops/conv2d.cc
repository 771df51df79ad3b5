#include "engine/ops/conv2d.h"

#include <algorithm>
#include <array>

#include "engine/gemm/window_product.h"
#include "engine/ops/linear_kernels.h"

namespace engine {
namespace {

using kernels::Tap;
using kernels::Trans;
using kernels::Windows;

constexpr int64_t kLargestKernel = 11;

struct Sizes {
  int64_t batch, in_h, in_w, in_c, kernel, out_h, out_w, out_c;
  int64_t stride, padding;

  bool is_product() const { return kernel == 1 && stride == 1 && padding == 0; }
  kernels::GemmSize gemm() const { return {batch * out_h * out_w, out_c, in_c}; }
};

// The taps of one convolution; they live as long as the call.
struct Taps {
  std::array<Tap, kLargestKernel * kLargestKernel> tap;
  size_t count = 0;
  void add(int64_t y, int64_t x, int64_t block) { tap[count++] = {y, x, block}; }
  std::span<const Tap> all() const { return {tap.data(), count}; }
};

Taps forward_taps(const Sizes& s) {
  Taps taps;
  for (int64_t u = 0; u < s.kernel; ++u) {
    for (int64_t v = 0; v < s.kernel; ++v) {
      taps.add(u - s.padding, v - s.padding, u * s.kernel + v);
    }
  }
  return taps;
}

Windows forward_windows(const Sizes& s, const Taps& taps) {
  return {s.batch, s.in_h, s.in_w, s.in_c, s.out_h, s.out_w, s.stride, taps.all()};
}

// dx at the pixels (y * stride + y0, x * stride + x0): output pixel i reads input i s + u - p, so
// input y s + y0 is read by output y + (y0 + p - u)/s for each u that s divides this for.
template <class T, class Backend>
void input_gradient_at(Backend on, const Sizes& s, int64_t y0, int64_t x0, const T* dy,
                       const T* weight, T* dx, GradWrite write, Precision precision) {
  Taps taps;
  for (int64_t u = 0; u < s.kernel; ++u) {
    for (int64_t v = 0; v < s.kernel; ++v) {
      const int64_t y = y0 + s.padding - u, x = x0 + s.padding - v;
      if (y % s.stride == 0 && x % s.stride == 0) {
        taps.add(y / s.stride, x / s.stride, u * s.kernel + v);
      }
    }
  }
  const Windows windows{s.batch,
                        s.out_h,
                        s.out_w,
                        s.out_c,
                        (s.in_h - y0 + s.stride - 1) / s.stride,
                        (s.in_w - x0 + s.stride - 1) / s.stride,
                        1,
                        taps.all()};
  kernels::window_product<T>(on, windows, dy, Trans::kYes, weight, s.in_c, dx,
                             {s.in_h, s.in_w, s.stride, y0, x0}, write, nullptr, precision);
}

template <class T, class Backend>
void input_gradient(Backend on, const Sizes& s, const T* dy, const T* weight, T* dx,
                    GradWrite write, Precision precision) {
  if (s.is_product()) {
    const auto [m, n, k] = s.gemm();
    return kernels::gemm<T>(on, Trans::kNo, Trans::kYes, {m, k, n}, dy, n, weight, n, dx, k, write,
                            {}, precision);
  }
  for (int64_t y0 = 0; y0 < std::min(s.stride, s.in_h); ++y0) {
    for (int64_t x0 = 0; x0 < std::min(s.stride, s.in_w); ++x0) {
      input_gradient_at(on, s, y0, x0, dy, weight, dx, write, precision);
    }
  }
}

template <class T, class Backend>
void weight_gradient(Backend on, const Sizes& s, const T* x, const T* dy, T* dw, GradWrite write,
                     Precision precision) {
  if (s.is_product()) {
    const auto [m, n, k] = s.gemm();
    return kernels::gemm<T>(on, Trans::kYes, Trans::kNo, {k, n, m}, x, k, dy, n, dw, n, write, {},
                            precision);
  }
  const Taps taps = forward_taps(s);
  kernels::window_product_transposed<T>(on, forward_windows(s, taps), x, dy, s.out_c, dw, write,
                                        precision);
}

template <class T, class Backend>
void convolve(Backend on, const Sizes& s, const T* x, const T* weight, const T* bias, T* y,
              Precision precision) {
  if (s.is_product()) {
    const auto [m, n, k] = s.gemm();
    kernels::Epilogue<T> epilogue;
    epilogue.bias = bias;
    return kernels::gemm<T>(on, Trans::kNo, Trans::kNo, s.gemm(), x, k, weight, n, y, n,
                            GradWrite::kOverwrite, epilogue, precision);
  }
  const Taps taps = forward_taps(s);
  kernels::window_product<T>(on, forward_windows(s, taps), x, Trans::kNo, weight, s.out_c, y,
                             {s.out_h, s.out_w}, GradWrite::kOverwrite, bias, precision);
}

Sizes sizes_of(const Tensor& x, const Tensor& weight, const Tensor& bias,
               const Conv2dOptions& options) {
  const Shape &in = x.shape(), &w = weight.shape();
  check(in.rank() == 4 && w.rank() == 4 && w[0] == w[1] && w[0] >= 1 && w[0] <= kLargestKernel &&
            in[3] == w[2] && w[2] >= 1,
        ErrorKind::kShape,
        "conv2d: expected x (B, H, W, C) and weight (K, K, C, N) with K from 1 to ", kLargestKernel,
        ", got ", in, " and ", w);
  check(options.stride >= 1, ErrorKind::kValue, "conv2d: stride must be 1 or more, got ",
        options.stride);
  check(options.padding >= 0, ErrorKind::kValue, "conv2d: padding must not be negative, got ",
        options.padding);
  const int64_t kernel = w[0];
  const int64_t down = in[1] + 2 * options.padding - kernel;
  const int64_t across = in[2] + 2 * options.padding - kernel;
  check(down >= 0 && across >= 0, ErrorKind::kShape, "conv2d: a kernel of ", kernel,
        " is larger than ", in, " padded by ", options.padding);
  check(!bias.defined() || bias.shape() == Shape{w[3]}, ErrorKind::kShape,
        "conv2d: expected bias (", w[3], "), got ", bias.shape());
  return {in[0],
          in[1],
          in[2],
          in[3],
          kernel,
          down / options.stride + 1,
          across / options.stride + 1,
          w[3],
          options.stride,
          options.padding};
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const Conv2dOptions& options) {
  check(x.tape() != nullptr, ErrorKind::kValue, "conv2d: input is not on a tape");
  check_precision("conv2d", x, options.precision);
  const Sizes s = sizes_of(x, weight, bias, options);
  const Precision precision = options.precision;
  Tensor y = x.tape()->arena().empty({s.batch, s.out_h, s.out_w, s.out_c}, x.dtype());
  dispatch(x, [&]<class T>(auto backend) {
    convolve(backend, s, x.data<const T>(), weight.data<const T>(),
             bias.defined() ? bias.data<const T>() : nullptr, y.data<T>(), precision);
  });

  x.tape()->record("conv2d", {x, weight, bias}, y, [=](const Tensor& dy, Tape& tape) {
    dispatch(x, [&]<class T>(auto backend) {
      const T* g = dy.data<const T>();
      if (tape.wants_grad(weight)) {
        const GradTarget dw = tape.target(weight);
        weight_gradient(backend, s, x.data<const T>(), g, dw.grad.data<T>(), dw.write, precision);
      }
      if (bias.defined() && tape.wants_grad(bias)) {
        const int64_t rows = s.gemm().m;
        kernels::add_column_sums(backend, g, nullptr, 1, {rows, s.out_c},
                                 tape.target_zeroed(bias).template data<T>());
      }
      if (tape.wants_grad(x)) {
        const GradTarget dx = tape.target(x);
        input_gradient(backend, s, g, weight.data<const T>(), dx.grad.data<T>(), dx.write,
                       precision);
      }
    });
  });
  return y;
}

}  // namespace engine
