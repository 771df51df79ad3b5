#include <algorithm>

#include "engine/gemm/gemm.h"
#include "engine/ops/batched.h"
#include "engine/ops/cast.h"
#include "engine/ops/linear.h"
#include "engine/ops/linear_kernels.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using kernels::Epilogue;
using kernels::Trans;

// Products and what surrounds them with tensors stored in bf16. Inputs are f32 values that bf16
// holds, so that the same product can be had from tensors stored in f32.
namespace {

using Small = std::vector<bf16>;
using Floats = std::vector<float>;
using Offset = std::vector<int32_t>;

// Half the distance of neighbours in bf16, relative: what storing costs.
constexpr double kHalfUlp = 0x1p-8;

Small rounded(const Floats& x) {
  Small out(x.size());
  std::transform(x.begin(), x.end(), out.begin(), to_bf16);
  return out;
}
Floats widened(const Small& x) {
  Floats out(x.size());
  std::transform(x.begin(), x.end(), out.begin(), to_float);
  return out;
}
Floats values(uint64_t seed, int64_t count, double scale = 1) {
  return widened(rounded(test_values<float>(seed, count, scale)));
}
std::vector<double> wide(const Floats& x) { return {x.begin(), x.end()}; }
Floats widened_if(const Small& x) { return widened(x); }
Floats widened_if(const Floats& x) { return x; }

// body(Cuda{stream}), for kernels that the CPU does not have.
template <class Body>
void on_cuda(Body&& body) {
  if constexpr (kCudaEnabled) body(cuda_backend());
}

// Uploads as T what bf16 holds.
template <class T>
Buffer given(const Floats& x) {
  if constexpr (std::is_same_v<T, bf16>) return upload(rounded(x), Device::kCuda);
  return upload(x, Device::kCuda);
}

struct Case {
  Trans ta = Trans::kNo, tb = Trans::kNo;
  bool bias = false, residual = false, activated = false, accumulate = false;
  GeluForm form = GeluForm::kTanh;
};
struct Outputs {
  Floats c, activated;
};
GradWrite write_of(const Case& what) {
  return what.accumulate ? GradWrite::kAccumulate : GradWrite::kOverwrite;
}

// One product, plain or grouped, of values that bf16 holds. `pad`: of each line of a, b and c;
// `shift`: of their first elements.
struct Product {
  kernels::GemmSize size;
  int64_t pad = 0, shift = 0;
  Offset offset = {};  // empty: plain

  int64_t groups() const { return std::max<int64_t>(1, static_cast<int64_t>(offset.size()) - 1); }
  int64_t lda(const Case& what) const { return (what.ta == Trans::kNo ? size.k : size.m) + pad; }
  int64_t ldb(const Case& what) const { return (what.tb == Trans::kNo ? size.n : size.k) + pad; }

  template <class In, class Out>
  Outputs run(Device device, const Case& what) const {
    const auto [m, n, k] = size;
    const bool grouped = !offset.empty();
    const int64_t lines_a = what.ta == Trans::kNo ? m : k;
    const int64_t lines_b = groups() * (what.tb == Trans::kNo ? k : n);
    const int64_t ldc = n + pad;
    const auto put = [&]<class T>(T, uint64_t seed, int64_t count) {
      const Floats x = values(seed, count + shift);
      if constexpr (std::is_same_v<T, bf16>) return upload(rounded(x), device);
      return upload(x, device);
    };
    const Buffer a = put(In{}, 1, lines_a * lda(what)), b = put(In{}, 2, lines_b * ldb(what)),
                 c = put(Out{}, 3, m * ldc), bias = put(float{}, 4, groups() * n),
                 residual = put(Out{}, 5, m * ldc), activated = put(Out{}, 6, m * ldc);
    const Buffer at = upload(grouped ? offset : Offset{0}, device);
    Epilogue<Out> e;
    if (what.bias) e.bias = bias.data<const float>();
    if (what.residual) e.residual = residual.data<const Out>() + shift;
    if (what.activated) e.activated = activated.data<Out>() + shift;
    e.form = what.form;
    const In *first_a = a.data<const In>() + shift, *first_b = b.data<const In>() + shift;
    Out* const first_c = c.data<Out>() + shift;
    const auto multiply = [&](auto backend) {
      if (grouped) {
        if constexpr (std::is_same_v<In, Out>) {  // there is no other one
          kernels::grouped_gemm<In>(backend, what.tb, at.data<const int32_t>(), groups(), size,
                                    first_a, first_b, first_c, write_of(what), e, Precision::kBf16);
        } else {
          FAIL("grouped products give what they take");
        }
      } else {
        kernels::gemm<In>(backend, what.ta, what.tb, size, first_a, lda(what), first_b, ldb(what),
                          first_c, ldc, write_of(what), e, Precision::kBf16);
      }
    };
    if constexpr (std::is_same_v<In, float>) {
      on_device(device, multiply);
    } else {
      on_cuda(multiply);
    }
    return {widened_if(download<Out>(c)), widened_if(download<Out>(activated))};
  }
};

std::vector<Case> cases(bool transposed_a) {
  std::vector<Case> all;
  for (int mask = 0; mask < 16; ++mask) {
    all.push_back({transposed_a ? Trans::kYes : Trans::kNo,
                   mask % 3 == 0 ? Trans::kYes : Trans::kNo, (mask & 1) != 0, (mask & 2) != 0,
                   (mask & 4) != 0, (mask & 8) != 0, mask < 8 ? GeluForm::kTanh : GeluForm::kErf});
  }
  return all;
}

void capture_and_check(const Product& product, const Case& what) {
  CAPTURE(product.size.m);
  CAPTURE(product.size.n);
  CAPTURE(product.size.k);
  CAPTURE(product.pad);
  CAPTURE(product.shift);
  CAPTURE(static_cast<int>(what.ta));
  CAPTURE(static_cast<int>(what.tb));
  CAPTURE(what.bias);
  CAPTURE(what.residual);
  CAPTURE(what.activated);
  CAPTURE(what.accumulate);
  const Outputs want = product.run<float, float>(Device::kCpu, what);
  const Outputs small = product.run<bf16, bf16>(Device::kCuda, what);
  // z is rounded at most twice, before and after the rest of an epilogue; gelu's slope is at most
  // 1.13, and its result is rounded once more.
  CHECK(worst_error(small.c, wide(want.c)) < 2 * kHalfUlp);
  CHECK(worst_error(small.activated, wide(want.activated)) < 3 * kHalfUlp);
  const Outputs again = product.run<bf16, bf16>(Device::kCuda, what);
  CHECK(same_bits(again.c, small.c));
  CHECK(same_bits(again.activated, small.activated));
  if (!product.offset.empty()) {
    // Our own kernels add in one order: what they store is the f32 result, rounded once.
    const Outputs full = product.run<float, float>(Device::kCuda, what);
    CHECK(same_bits(small.c, widened(rounded(full.c))));
    CHECK(same_bits(small.activated, widened(rounded(full.activated))));
    return;
  }
  // A weight's gradient: the operands are exact, the sums f32.
  const Outputs full = product.run<bf16, float>(Device::kCuda, what);
  CHECK(worst_error(full.c, wide(want.c)) < 1e-5);
  CHECK(worst_error(full.activated, wide(want.activated)) < 1e-5);
}

// c_g (m,n) = a_g^T b_g, f32 from bf16: the same bits as from f32.
void check_transposed(const Offset& offset, int64_t m, int64_t n) {
  CAPTURE(m);
  CAPTURE(n);
  const int64_t rows = offset.back(), groups = static_cast<int64_t>(offset.size()) - 1;
  const Floats x = values(1, rows * m), y = values(2, rows * n);
  const auto run = [&]<class In>(In, Device device, GradWrite write) {
    const Buffer a = device == Device::kCuda ? given<In>(x) : upload(x, device);
    const Buffer b = device == Device::kCuda ? given<In>(y) : upload(y, device);
    const Buffer c = upload(test_values<float>(3, groups * m * n), device);
    const Buffer at = upload(offset, device);
    const auto multiply = [&](auto backend) {
      kernels::grouped_gemm_transposed<In>(backend, at.data<const int32_t>(), groups, {m, n, rows},
                                           a.data<const In>(), b.data<const In>(), c.data<float>(),
                                           write, Precision::kBf16);
    };
    if constexpr (std::is_same_v<In, float>) {
      on_device(device, multiply);
    } else {
      on_cuda(multiply);
    }
    return download<float>(c);
  };
  for (const GradWrite write : {GradWrite::kOverwrite, GradWrite::kAccumulate}) {
    const Floats got = run(bf16{}, Device::kCuda, write);
    CHECK(same_bits(got, run(float{}, Device::kCuda, write)));
    CHECK(worst_error(got, wide(run(float{}, Device::kCpu, write))) < 1e-5);
  }
}

struct Op {
  bool grouped = false, bias = true, residual = false, gelu = false;
  GeluForm form = GeluForm::kTanh;
};
struct Run {
  Floats y, dx, dw, db, dresidual;
};

// x is rounded to bf16 and back between leaf and op where the op shall work in f32, so that both
// begin with the same numbers and hand back dx through the same cast.
Run run_op(Device device, bool stored, const Op& op, int64_t rows, int64_t k, int64_t n) {
  const Offset offset{0, static_cast<int32_t>(rows / 3), static_cast<int32_t>(rows / 3),
                      static_cast<int32_t>(rows)};
  const int64_t groups = op.grouped ? 3 : 1;
  const Shape w_shape = op.grouped ? Shape{3, k, n} : Shape{k, n};
  const Shape b_shape = op.grouped ? Shape{3, n} : Shape{n};
  const Shape shapes[] = {{rows, k}, w_shape, b_shape, {rows, n}};
  StepArena arena(device);
  Tape tape(arena);
  std::vector<Buffer> data, grads;
  std::vector<Tensor> in;
  for (size_t i = 0; i < 4; ++i) {
    data.push_back(upload(values(10 + i, shapes[i].numel()), shapes[i], device));
    grads.push_back(upload(values(20 + i, shapes[i].numel()), shapes[i], device));
    in.push_back(tape.leaf(data[i].tensor(), grads[i].tensor()));
  }
  const Dtype dtype = stored ? Dtype::kBF16 : Dtype::kF32;
  const Tensor x = cast(in[0], dtype), residual = cast(in[3], dtype);
  const LinearOptions options{.residual = op.residual ? &residual : nullptr,
                              .gelu = op.gelu,
                              .form = op.form,
                              .precision = Precision::kBf16};
  const Tensor bias = op.bias ? in[2] : Tensor{};
  const Tensor y = op.grouped
                       ? grouped_linear(x, in[1], bias, on(arena, offset, {groups + 1}), options)
                       : linear(x, in[1], bias, options);
  CHECK(y.dtype() == dtype);
  const Tensor out = cast(y, Dtype::kF32);
  const Buffer seed = upload(values(30, out.numel()), out.shape(), device);
  tape.backward(out, seed.tensor());
  return {download<float>(out), download<float>(grads[0]), download<float>(grads[1]),
          download<float>(grads[2]), download<float>(grads[3])};
}

void check_op(const Op& op, int64_t rows, int64_t k, int64_t n) {
  CAPTURE(op.grouped);
  CAPTURE(op.bias);
  CAPTURE(op.residual);
  CAPTURE(op.gelu);
  CAPTURE(rows);
  CAPTURE(k);
  CAPTURE(n);
  const Run want = run_op(Device::kCpu, false, op, rows, k, n);
  const Run got = run_op(Device::kCuda, true, op, rows, k, n);
  CHECK(worst_error(got.y, wide(want.y)) < 2 * kHalfUlp);
  CHECK(worst_error(got.dx, wide(want.dx)) < 3 * kHalfUlp);
  // Without gelu dz is dy, whose numbers bf16 holds: only the order of f32 sums differs.
  const double bound = op.gelu ? 3 * kHalfUlp : 1e-5;
  CHECK(worst_error(got.dw, wide(want.dw)) < bound);
  CHECK(worst_error(got.db, wide(want.db)) < bound);
  CHECK(worst_error(got.dresidual, wide(want.dresidual)) < 1e-6);
  const Run again = run_op(Device::kCuda, true, op, rows, k, n);
  CHECK(same_bits(again.y, got.y));
  CHECK(same_bits(again.dx, got.dx));
  CHECK(same_bits(again.dw, got.dw));
  CHECK(same_bits(again.db, got.db));
}

}  // namespace

TEST_CASE("cuda: products stored in bf16" * doctest::skip(!cuda_available())) {
  for (const Case& what : cases(false)) {
    capture_and_check({{17, 24, 40}}, what);
    capture_and_check({{17, 24, 40}, 8}, what);
    capture_and_check({{9, 8, 16}}, what);  // narrow: GELU in a pass of its own
    capture_and_check({{9, 7, 13}}, what);  // no line on 16 bytes
    capture_and_check({{5, 12, 0}}, what);
  }
  for (const Case& what : cases(true)) {
    capture_and_check({{16, 24, 33}}, what);
    capture_and_check({{16, 24, 33}, 0, 1}, what);
    capture_and_check({{7, 5, 9}, 3}, what);
  }
}

TEST_CASE("cuda: products stored in bf16, same bits of a row for any number of rows" *
          doctest::skip(!cuda_available())) {
  for (const auto& each : {std::pair{24, 40}, {7, 13}}) {
    const auto n = std::get<0>(each), k = std::get<1>(each);
    const Case what{.bias = true, .activated = true};
    const Product all{{130, n, k}};
    const Outputs whole = all.run<bf16, bf16>(Device::kCuda, what);
    for (const int64_t m : {1, 2, 7, 64}) {
      const Outputs part = Product{{m, n, k}}.run<bf16, bf16>(Device::kCuda, what);
      CHECK(same_bits(part.c, Floats(whole.c.begin(), whole.c.begin() + m * n)));
      CHECK(same_bits(part.activated,
                      Floats(whole.activated.begin(), whole.activated.begin() + m * n)));
    }
  }
}

TEST_CASE("cuda: grouped products stored in bf16" * doctest::skip(!cuda_available())) {
  for (const Case& what : cases(false)) {
    capture_and_check({{20, 16, 40}, 0, 0, {0, 9, 9, 20}}, what);
    capture_and_check({{20, 7, 9}, 0, 0, {0, 9, 9, 20}}, what);
  }
  for (const Trans tb : {Trans::kNo, Trans::kYes}) {
    const Case what{.tb = tb, .bias = true, .activated = true};
    capture_and_check({{131, 136, 72}, 0, 0, {0, 0, 129, 131}}, what);
    capture_and_check({{131, 130, 65}, 0, 0, {0, 0, 129, 131}}, what);
    capture_and_check({{7, 8, 8}, 0, 1, {0, 3, 7}}, what);
  }
  for (const auto& each : {std::pair{8, 136}, {136, 16}, {7, 5}, {130, 24}}) {
    check_transposed({0, 3, 3, 72}, std::get<0>(each), std::get<1>(each));
  }
}

TEST_CASE("cuda: linear stored in bf16" * doctest::skip(!cuda_available())) {
  for (const bool grouped : {false, true}) {
    for (const auto& each : {std::pair{16, 24}, {7, 5}}) {
      const auto k = std::get<0>(each), n = std::get<1>(each);
      check_op({.grouped = grouped}, 37, k, n);
      check_op({.grouped = grouped, .bias = false}, 9, k, n);
      check_op({.grouped = grouped, .gelu = true}, 37, k, n);
      check_op({.grouped = grouped, .gelu = true, .form = GeluForm::kErf}, 9, k, n);
      if (!grouped) check_op({.residual = true}, 37, k, n);
    }
  }
}

TEST_CASE("cuda: batched products stored in bf16" * doctest::skip(!cuda_available())) {
  for (const auto& each : {std::pair{16, 24}, {7, 5}}) {
    const auto k = std::get<0>(each), n = std::get<1>(each);
    const Shape shapes[] = {{3, 9, k}, {3, k, n}};
    const auto run = [&](Device device, Dtype dtype) {
      StepArena arena(device);
      Tape tape(arena);
      std::vector<Buffer> data, grads;
      std::vector<Tensor> in;
      for (size_t i = 0; i < 2; ++i) {
        data.push_back(upload(values(10 + i, shapes[i].numel()), shapes[i], device));
        grads.push_back(upload(Floats(shapes[i].numel()), shapes[i], device));
        in.push_back(cast(tape.leaf(data[i].tensor(), grads[i].tensor()), dtype));
      }
      const Tensor y = cast(batched_matmul(in[0], in[1], Precision::kBf16), Dtype::kF32);
      const Buffer seed = upload(values(30, y.numel()), y.shape(), device);
      tape.backward(y, seed.tensor());
      return std::vector<Floats>{download<float>(y), download<float>(grads[0]),
                                 download<float>(grads[1])};
    };
    const auto want = run(Device::kCpu, Dtype::kF32), got = run(Device::kCuda, Dtype::kBF16);
    const auto again = run(Device::kCuda, Dtype::kBF16);
    for (size_t i = 0; i < want.size(); ++i) {
      CHECK(worst_error(got[i], wide(want[i])) < 2 * kHalfUlp);
      CHECK(same_bits(again[i], got[i]));
    }
  }
}

TEST_CASE("cuda: linear stored in bf16 reads the weight as it is now" *
          doctest::skip(!cuda_available())) {
  // Two steps on one tape and arena, between which the weight changes where it lies.
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Buffer x = upload(Floats(16, 1.0f), {2, 8}, Device::kCuda);
  const Buffer w = upload(Floats(64, 0.0f), {8, 8}, Device::kCuda);
  const Buffer dw = upload(Floats(64, 0.0f), {8, 8}, Device::kCuda);
  for (const float value : {1.0f, -3.0f}) {
    const Floats now(64, value);
    device_copy(Device::kCuda, w.tensor().raw(), Device::kCpu, now.data(), w.tensor().bytes());
    const Tensor in = cast(tape.input(x.tensor()), Dtype::kBF16);
    const Tensor weight = tape.leaf(w.tensor(), dw.tensor());
    const Tensor y = linear(in, weight, Tensor{}, {.precision = Precision::kBf16});
    CHECK(widened(download<bf16>(y)) == Floats(16, 8 * value));
    tape.clear();
    arena.reset();
  }
}

TEST_CASE("cuda: column sums, gelu_backward and add_into stored in bf16 are those of f32, rounded" *
          doctest::skip(!cuda_available())) {
  for (const int64_t count : {1, 8, 1000, 1023}) {
    const Floats z = values(1, count, 6), dh = values(2, count);
    const auto run = [&]<class T>(T, bool add, GeluForm form) {
      const Buffer a = given<T>(z), b = given<T>(dh);
      on_cuda([&](auto backend) {
        if (add) return kernels::add_into<T>(backend, a.data<const T>(), b.data<T>(), count);
        kernels::gelu_backward<T>(backend, a.data<const T>(), b.data<const T>(), b.data<T>(), count,
                                  form);
      });
      return widened_if(download<T>(b));
    };
    for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
      CHECK(same_bits(run(bf16{}, false, form), widened(rounded(run(float{}, false, form)))));
    }
    CHECK(same_bits(run(bf16{}, true, {}), widened(rounded(run(float{}, true, {})))));
  }
  for (const int64_t cols : {1, 8, 24, 130, 264}) {
    for (const Offset& offset : {Offset{}, Offset{0, 0, 31, 95, 95}, Offset{0, 2000}}) {
      const int64_t rows = offset.empty() ? 77 : offset.back();
      const int64_t groups = std::max<int64_t>(1, static_cast<int64_t>(offset.size()) - 1);
      const Floats x = values(1, rows * cols), start = test_values<float>(2, groups * cols);
      const auto run = [&]<class T>(T) {
        const Buffer in = given<T>(x), out = upload(start, Device::kCuda);
        const Buffer at = upload(offset.empty() ? Offset{0} : offset, Device::kCuda);
        on_cuda([&](auto backend) {
          kernels::add_column_sums<T>(backend, in.data<const T>(),
                                      offset.empty() ? nullptr : at.data<const int32_t>(), groups,
                                      {rows, cols}, out.data<float>());
        });
        return download<float>(out);
      };
      CAPTURE(cols);
      CHECK(same_bits(run(bf16{}), run(float{})));
    }
  }
}

TEST_CASE("cuda: tensors stored in bf16 have products in bf16 only" *
          doctest::skip(!cuda_available())) {
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Buffer x = upload(values(1, 6), {2, 3}, Device::kCuda);
  const Buffer w = upload(values(2, 12), {3, 4}, Device::kCuda);
  const Tensor in = cast(tape.input(x.tensor()), Dtype::kBF16);
  for (const Precision precision : {Precision::kF32, Precision::kTf32}) {
    CHECK_THROWS_WITH_AS(linear(in, w.tensor(), Tensor{}, {.precision = precision}),
                         doctest::Contains("stored in bf16 are multiplied in bf16"), Error);
  }
  const Buffer a = given<bf16>(values(1, 16)), c = given<bf16>(values(2, 16));
  on_cuda([&](auto backend) {
    CHECK_THROWS_AS(
        kernels::gemm<bf16>(backend, Trans::kNo, Trans::kNo, {4, 4, 4}, a.data<const bf16>(), 4,
                            a.data<const bf16>(), 4, c.data<bf16>(), 4, GradWrite::kOverwrite),
        Error);
  });
}
