#include "engine/ops/linear.h"

#include <algorithm>

#include "engine/core/stored.h"
#include "engine/gemm/gemm.h"
#include "engine/ops/cast_kernels.h"
#include "engine/ops/linear_kernels.h"
#include "engine/ops/residual.h"

namespace engine {
namespace {

using kernels::Epilogue;
using kernels::Trans;

void check_operands(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias,
                    const LinearOptions& options, const Shape& out, bool grouped) {
  check(x.tape() != nullptr, ErrorKind::kValue, op, ": input is not on a tape");
  check_product(op, x, options.precision);
  check(!(options.gelu && options.residual != nullptr), ErrorKind::kValue, op,
        ": gelu and residual cannot be combined");
  const Shape bias_shape =
      grouped ? Shape{weight.shape()[0], weight.shape()[-1]} : Shape{weight.shape()[-1]};
  check(!bias.defined() || bias.shape() == bias_shape, ErrorKind::kShape, op, ": expected bias ",
        bias_shape, ", got ", bias.shape());
  check(options.residual == nullptr || options.residual->shape() == out, ErrorKind::kShape, op,
        ": expected a residual of ", out);
}

// The weight as the products read it: beside activations stored in bf16 rounded to bf16, once for
// the products of forward and backward.
Tensor operand_of(const Tensor& weight, const Tensor& x) {
  if (x.dtype() != Dtype::kBF16) return weight;
  const Tensor rounded = x.tape()->arena().empty(weight.shape(), Dtype::kBF16);
  if constexpr (kCudaEnabled) {
    kernels::put_cast(cuda_backend(), weight.data<const float>(), rounded.data<bf16>(),
                      weight.numel(), GradWrite::kOverwrite);
  }
  return rounded;
}

template <class T>
Epilogue<T> epilogue_of(const Tensor& bias, const LinearOptions& options, const Tensor& y) {
  Epilogue<T> e;
  if (bias.defined()) e.bias = bias.data<const Wide<T>>();
  if (options.residual != nullptr) e.residual = options.residual->data<const T>();
  if (options.gelu) e.activated = y.data<T>();
  e.form = options.form;
  return e;
}

// On a GPU a product multiplies by gelu'(z) on its way to memory: whoever reads y may do it.
void offer_slope(const Tensor& y, const Tensor& z, const LinearOptions& options, Tape& tape) {
  if (!options.gelu || y.device() == Device::kCpu) return;
  tape.offer_slope(y, {z, static_cast<int>(options.form)});
}
template <class T>
Epilogue<T> slope_for(const Tensor& x, Tape& tape) {
  Epilogue<T> e;
  if (const Tape::Slope slope = tape.take_slope(x); slope.of.defined()) {
    e.slope_of = slope.of.data<const T>();
    e.form = static_cast<GeluForm>(slope.form);
  }
  return e;
}

// dz of dz = dy * gelu'(z), in dy's own memory where that is free.
Tensor through_gelu(const Tensor& dy, const Tensor& z, const LinearOptions& options, Tape& tape) {
  if (!options.gelu || tape.multiplied(dy)) return dy;
  const Tensor dz = tape.scratch_like(dy);
  dispatch_stored(dy, [&]<class T>(auto backend) {
    kernels::gelu_backward(backend, z.data<const T>(), dy.data<const T>(), dz.data<T>(), dy.numel(),
                           options.form);
  });
  return dz;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const LinearOptions& options) {
  check(weight.shape().rank() == 2 && x.shape().rank() >= 1 && x.shape()[-1] == weight.shape()[0],
        ErrorKind::kShape, "linear: expected x (..., K) and weight (K, N), got ", x.shape(),
        " and ", weight.shape());
  const RowsCols rows = fold_rows(x.shape());
  const int64_t n = weight.shape()[1], k = rows.cols;
  const Shape out = x.shape().with_last(n);
  check_operands("linear", x, weight, bias, options, out, false);

  StepArena& arena = x.tape()->arena();
  Tensor y = arena.empty(out, x.dtype());
  const Tensor z = options.gelu ? arena.empty(out, x.dtype()) : y;
  const Tensor w = operand_of(weight, x);
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::gemm<T>(backend, Trans::kNo, Trans::kNo, {rows.rows, n, k}, x.data<const T>(), k,
                     w.data<const T>(), n, z.data<T>(), n, GradWrite::kOverwrite,
                     epilogue_of<T>(bias, options, y), options.precision);
  });

  const Tensor residual = options.residual != nullptr ? *options.residual : Tensor{};
  LinearOptions saved = options;
  saved.residual = nullptr;  // the caller's tensor: kept by value above
  x.tape()->record("linear", {x, weight, bias, residual}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dz = through_gelu(dy, z, saved, tape);
    dispatch_stored(x, [&]<class T>(auto backend) {
      const T* g = dz.data<const T>();
      Wide<T>* const dbias = bias.defined() && tape.wants_grad(bias)
                                 ? tape.target_zeroed(bias).template data<Wide<T>>()
                                 : nullptr;
      Epilogue<Wide<T>> with_sums;
      if (x.device() == Device::kCuda) with_sums.b_sums = dbias;
      if (tape.wants_grad(weight)) {
        const GradTarget dw = tape.target(weight);
        kernels::gemm<T>(backend, Trans::kYes, Trans::kNo, {k, n, rows.rows}, x.data<const T>(), k,
                         g, n, dw.grad.data<Wide<T>>(), n, dw.write, with_sums, saved.precision);
      }
      if (dbias != nullptr && !(with_sums.b_sums != nullptr && tape.wants_grad(weight))) {
        kernels::add_column_sums(backend, g, nullptr, 1, {rows.rows, n}, dbias);
      }
      if (tape.wants_grad(x)) {
        const Epilogue<T> slope = slope_for<T>(x, tape);
        const GradTarget dx = tape.target(x);
        kernels::gemm<T>(backend, Trans::kNo, Trans::kYes, {rows.rows, k, n}, g, n,
                         w.data<const T>(), n, dx.grad.data<T>(), k, dx.write, slope,
                         saved.precision);
      }
    });
    give_residual(residual, dy, tape);
  });
  offer_slope(y, z, options, *x.tape());
  return y;
}

Tensor grouped_linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& offset, const LinearOptions& options) {
  check(weight.shape().rank() == 3 && x.shape().rank() == 2 && x.shape()[1] == weight.shape()[1],
        ErrorKind::kShape, "grouped_linear: expected x (S, K) and weight (E, K, N), got ",
        x.shape(), " and ", weight.shape());
  const int64_t e = weight.shape()[0], k = weight.shape()[1], n = weight.shape()[2];
  const int64_t s = x.shape()[0];
  check_operands("grouped_linear", x, weight, bias, options, {s, n}, true);
  check(options.residual == nullptr, ErrorKind::kValue, "grouped_linear: no residual here");
  const int32_t* offsets = offset.data<const int32_t>();
  const bool readable = x.device() == Device::kCpu;  // by the host
  check(offset.shape() == Shape{e + 1} && offset.device() == x.device() &&
            (!readable || (offsets[0] == 0 && offsets[e] == s)),
        ErrorKind::kShape, "grouped_linear: expected offset (E+1) from 0 to ", s, ", got ",
        offset.shape());
  check(!readable || std::is_sorted(offsets, offsets + e + 1), ErrorKind::kValue,
        "grouped_linear: the offsets go down");

  StepArena& arena = x.tape()->arena();
  Tensor y = arena.empty({s, n}, x.dtype());
  const Tensor z = options.gelu ? arena.empty({s, n}, x.dtype()) : y;
  const Tensor w = operand_of(weight, x);
  dispatch_stored(x, [&]<class T>(auto backend) {
    kernels::grouped_gemm<T>(backend, Trans::kNo, offsets, e, {s, n, k}, x.data<const T>(),
                             w.data<const T>(), z.data<T>(), GradWrite::kOverwrite,
                             epilogue_of<T>(bias, options, y), options.precision);
  });

  const LinearOptions saved = options;
  x.tape()->record("grouped_linear", {x, weight, bias}, y, [=](const Tensor& dy, Tape& tape) {
    const Tensor dz = through_gelu(dy, z, saved, tape);
    dispatch_stored(x, [&]<class T>(auto backend) {
      const T* g = dz.data<const T>();
      if (tape.wants_grad(weight)) {
        const GradTarget dw = tape.target(weight);
        kernels::grouped_gemm_transposed<T>(backend, offsets, e, {k, n, s}, x.data<const T>(), g,
                                            dw.grad.data<Wide<T>>(), dw.write, saved.precision);
      }
      if (bias.defined() && tape.wants_grad(bias)) {
        kernels::add_column_sums(backend, g, offsets, e, {s, n},
                                 tape.target_zeroed(bias).template data<Wide<T>>());
      }
      if (tape.wants_grad(x)) {
        const Epilogue<T> slope = slope_for<T>(x, tape);
        const GradTarget dx = tape.target(x);
        kernels::grouped_gemm<T>(backend, Trans::kYes, offsets, e, {s, k, n}, g, w.data<const T>(),
                                 dx.grad.data<T>(), dx.write, slope, saved.precision);
      }
    });
  });
  offer_slope(y, z, options, *x.tape());
  return y;
}

}  // namespace engine
