#include "engine/ops/linear.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/core/precision.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/linear_kernels.h"
#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::gradcheck_along;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

const Tensor kNone;

double naive_gelu(double z, GeluForm form) {
  if (form == GeluForm::kErf) return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0)));
  return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
}

// What a linear layer may do besides the product.
struct Variant {
  const char* name;
  bool bias, residual;
  bool gelu = false;
  GeluForm form = GeluForm::kTanh;
};
const Variant kVariants[] = {
    {"product", false, false},
    {"bias", true, false},
    {"residual", false, true},
    {"bias and residual", true, true},
    {"gelu tanh", true, false, true, GeluForm::kTanh},
    {"gelu tanh without bias", false, false, true, GeluForm::kTanh},
    {"gelu erf", true, false, true, GeluForm::kErf},
};

// Inputs in the order x, weight, bias, residual; those that a variant does not use stay idle.
test::Function linear_of(const Variant& v) {
  return [v](std::span<const Tensor> x) {
    LinearOptions options;
    if (v.residual) options.residual = &x[3];
    options.gelu = v.gelu;
    options.form = v.form;
    return linear(x[0], x[1], v.bias ? x[2] : kNone, options);
  };
}

std::vector<Shape> shapes_for(const Shape& x, int64_t n) {
  return {x, Shape{x[-1], n}, Shape{n}, x.with_last(n)};
}

template <class T>
std::vector<double> naive_linear(const Variant& v, const std::vector<std::vector<T>>& in,
                                 int64_t rows, int64_t k, int64_t n) {
  std::vector<double> y(static_cast<size_t>(rows * n));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      double z = v.bias ? in[2][c] : 0;
      for (int64_t p = 0; p < k; ++p) z += double(in[0][r * k + p]) * in[1][p * n + c];
      if (v.residual) z += in[3][r * n + c];
      y[r * n + c] = v.gelu ? naive_gelu(z, v.form) : z;
    }
  }
  return y;
}

std::vector<std::vector<float>> float_inputs(const std::vector<Shape>& shapes) {
  std::vector<std::vector<float>> in;
  for (const Shape& s : shapes) in.push_back(values<float>(s.numel(), in.size() + 1));
  return in;
}

test::Function grouped_of(const std::vector<int32_t>& offset, bool bias, bool gelu = false,
                          GeluForm form = GeluForm::kTanh) {
  return [=, &offset](std::span<const Tensor> x) {
    LinearOptions options;
    options.gelu = gelu;
    options.form = form;
    return grouped_linear(x[0], x[1], bias ? x[2] : kNone,
                          view(offset, {static_cast<int64_t>(offset.size())}), options);
  };
}

}  // namespace

TEST_CASE("linear: matches a naive f64 reference") {
  for (const Variant& v : kVariants) {
    CAPTURE(v.name);
    const struct {
      Shape x;
      int64_t n;
    } sizes[] = {{{1}, 1},       {{1, 1}, 5},     {{3, 7}, 8},      {{2, 3, 15}, 17},
                 {{5, 257}, 49}, {{97, 64}, 100}, {{200, 300}, 33}, {{0, 4}, 3}};
    for (const auto& size : sizes) {
      CAPTURE(size.x);
      const auto shapes = shapes_for(size.x, size.n);
      const auto in = float_inputs(shapes);
      const int64_t k = size.x[-1];
      const auto want = naive_linear(v, in, size.x.numel() / k, k, size.n);
      CHECK(distance(run_op<float>(linear_of(v), shapes, in).y, want) < 2e-6);
    }
  }
}

TEST_CASE("linear: gelu in its two forms far out and near zero") {
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    std::vector<float> x;
    for (double z = -30; z <= 30; z += 0.07) x.push_back(static_cast<float>(z));
    for (const float z : {0.0f, 1e-20f, -1e-20f, 1e-4f, 100.0f, -100.0f, 1e4f, -1e4f})
      x.push_back(z);
    const auto n = static_cast<int64_t>(x.size());
    const Variant v{"", false, false, true, form};
    const auto y = run_op<float>(linear_of(v), {Shape{n, 1}, Shape{1, 1}, Shape{1}, Shape{n, 1}},
                                 {x, {1}, {0}, std::vector<float>(x.size())})
                       .y;
    double worst = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      worst =
          std::max(worst, std::abs(y[i] - naive_gelu(x[i], form)) / std::max(1.0f, std::abs(x[i])));
    }
    CHECK(worst < 3e-7);
    CHECK(y[y.size() - 4] == 100.0f);
  }
}

TEST_CASE("linear: gradient of every input and parameter") {
  for (const Variant& v : kVariants) {
    CAPTURE(v.name);
    for (const Shape& x : {Shape{1, 1}, Shape{3}, Shape{2, 5}, Shape{2, 2, 3}}) {
      const auto report = gradcheck(linear_of(v), shapes_for(x, 4));
      CHECK_MESSAGE(report.ok(), report);
    }
    const auto large = gradcheck_along(linear_of(v), shapes_for({150, 70}, 50));
    CHECK_MESSAGE(large.ok(), large);
  }
  const auto deep = gradcheck_along(linear_of(kVariants[3]), shapes_for({600, 300}, 60));
  CHECK_MESSAGE(deep.ok(), deep);
}

TEST_CASE("linear: gradient when only one input wants one") {
  const auto x = values<double>(6, 1), w = values<double>(12, 2), b = values<double>(4, 3),
             r = values<double>(8, 4);
  for (int which = 0; which < 4; ++which) {
    CAPTURE(which);
    const auto f = [&](std::span<const Tensor> in) {
      Tape& tape = *in[0].tape();
      const Tensor fixed[4] = {tape.input(view(x, {2, 3})), view(w, {3, 4}), view(b, {4}),
                               view(r, {2, 4})};
      const auto at = [&](int i) { return i == which ? in[0] : fixed[i]; };
      const Tensor residual = at(3);
      return linear(at(0), at(1), at(2), {.residual = &residual});
    };
    const Shape shapes[4] = {{2, 3}, {3, 4}, {4}, {2, 4}};
    const auto report = gradcheck(f, {shapes[which]});
    CHECK_MESSAGE(report.ok(), report);
  }
}

TEST_CASE("linear: gradient through chains that share a weight") {
  const auto f = [](std::span<const Tensor> x) {
    // The weight is a leaf in two layers and an intermediate in two others.
    const Tensor w = scale(x[1], 0.5);
    Tensor y = linear(x[0], x[1], x[2], {.gelu = true});
    y = linear(y, w, x[2], {.gelu = true, .form = GeluForm::kErf});
    y = linear(y, w, kNone);
    return linear(y, x[1], x[2]);
  };
  const auto report = gradcheck(f, {Shape{2, 3}, Shape{3, 3}, Shape{3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("linear: gradient of residual streams") {
  // x feeds a norm and is the residual, twice in a row: gradients are handed over.
  const auto block = [](const Tensor& x, std::span<const Tensor> p) {
    const Tensor h = linear(layer_norm(x, p[1], p[2]), p[3], p[4], {.gelu = true});
    return linear(h, p[5], p[1], {.residual = &x});
  };
  const std::vector<Shape> shapes = {{2, 3}, {3}, {3}, {3, 4}, {4}, {4, 3}};
  const auto leaf_first = [&](std::span<const Tensor> x) { return block(block(x[0], x), x); };
  auto report = gradcheck(leaf_first, shapes);
  CHECK_MESSAGE(report.ok(), report);
  const auto intermediate = [&](std::span<const Tensor> x) {
    const Tensor start = scale(x[0], 1.5);
    return scale(block(block(start, x), x), 2);
  };
  report = gradcheck(intermediate, shapes);
  CHECK_MESSAGE(report.ok(), report);
  const auto itself = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    const Tensor z = linear(y, x[1], kNone, {.residual = &y});
    // The residual of two layers, and of one whose gradient nobody owns.
    return linear(y, x[1], kNone, {.residual = &z});
  };
  report = gradcheck(itself, {Shape{2, 3}, Shape{3, 3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("linear: same bits for any number of threads") {
  for (const Variant& v : kVariants) {
    CAPTURE(v.name);
    CHECK(test::op_same_bits_for_threads<float>(linear_of(v), shapes_for({311, 65}, 130)));
  }
  CHECK(test::op_same_bits_for_threads<double>(linear_of(kVariants[1]), shapes_for({70, 300}, 31)));
  CHECK(test::op_same_bits_for_threads<float>(linear_of(kVariants[3]), shapes_for({2, 300}, 700)));
}

TEST_CASE("linear: same bits in batches of 1 and 7 and 256") {
  for (const Variant& v : {kVariants[1], kVariants[4], kVariants[6]}) {
    CAPTURE(v.name);
    CHECK(test::batch_shows_nowhere<float>(linear_of(v), {300}, {Shape{300, 65}, Shape{65}}));
    CHECK(test::batch_shows_nowhere<double>(linear_of(v), {5, 7}, {Shape{7, 10}, Shape{10}}));
  }
}

// x, weight and cotangent as a product in bf16 takes them.
std::vector<float> rounded(std::vector<float> v) {
  for (float& x : v) x = to_float(to_bf16(x));
  return v;
}

// Whether an op in bf16 gives what the same op in f32 gives from operands rounded beforehand, but
// not from others: output and the gradients of the first two inputs.
void check_bf16(const test::Function& in_bf16, const test::Function& in_f32,
                const std::vector<Shape>& shapes) {
  const auto in = float_inputs(shapes);
  const auto got = run_op<float>(in_bf16, shapes, in);
  const auto cotangent = values<float>(static_cast<int64_t>(got.y.size()), 1000);
  auto exact = in;
  exact[0] = rounded(in[0]);
  exact[1] = rounded(in[1]);
  const auto want = run_op<float>(in_f32, shapes, exact, rounded(cotangent));
  const auto other = run_op<float>(in_f32, shapes, in, cotangent);
  CHECK(distance(got.y, want.y) < 1e-6);
  CHECK(distance(got.y, other.y) > 1e-4);
  for (size_t k = 0; k < 2; ++k) {
    CHECK(distance(got.grads[k], want.grads[k]) < 1e-6);
    CHECK(distance(got.grads[k], other.grads[k]) > 1e-4);
  }
  for (size_t k = 2; k < shapes.size(); ++k) {  // sums of what was not rounded
    CHECK(test::same_bytes(got.grads[k], other.grads[k]));
  }
}

TEST_CASE("linear: in bf16 the operands of all three products are rounded, and nothing else") {
  for (size_t v = 0; v < 4; ++v) {
    const test::Function in_bf16 = [&](std::span<const Tensor> x) {
      LinearOptions options{.precision = Precision::kBf16};
      if (kVariants[v].residual) options.residual = &x[3];
      return linear(x[0], x[1], kVariants[v].bias ? x[2] : kNone, options);
    };
    check_bf16(in_bf16, linear_of(kVariants[v]), shapes_for({70, 48}, 40));
  }
}

TEST_CASE("linear: GELU in bf16 is that of the sum, and its gradient f32's") {
  const std::vector<Shape> shapes = shapes_for({33, 48}, 20);
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    const auto with = [&](bool gelu) {
      return run_op<float>(
          [&](std::span<const Tensor> x) {
            return linear(x[0], x[1], x[2],
                          {.gelu = gelu, .form = form, .precision = Precision::kBf16});
          },
          shapes);
    };
    const auto plain = with(false), activated = with(true);
    double worst = 0;
    for (size_t i = 0; i < plain.y.size(); ++i) {
      worst = std::max(worst, std::abs(naive_gelu(plain.y[i], form) - activated.y[i]));
    }
    CHECK(worst < 1e-6);
    const auto f32 = run_op<float>(linear_of({"", true, false, true, form}), shapes);
    for (size_t k = 0; k < 3; ++k) CHECK(distance(activated.grads[k], f32.grads[k]) < 2e-2);
  }
}

TEST_CASE("grouped_linear: in bf16 the operands of all three products are rounded") {
  const std::vector<int32_t> offset = {0, 0, 5, 40, 40, 77};
  check_bf16(
      [&](std::span<const Tensor> x) {
        return grouped_linear(x[0], x[1], x[2], view(offset, {6}), {.precision = Precision::kBf16});
      },
      grouped_of(offset, true), {{77, 33}, {5, 33, 50}, {5, 50}});
}

TEST_CASE("linear: f64 has no bf16") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<double> v(6), w(12);
  CHECK(caught([&] {
          linear(tape.input(view(v, {2, 3})), view(w, {3, 4}), kNone,
                 {.precision = Precision::kBf16});
        }).is(ErrorKind::kDtype, {"bf16", "f64"}));
}

TEST_CASE("linear: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(6), w(12), b(4), wrong(5), one(1);
  const Tensor x = tape.input(view(v, {2, 3})), weight = view(w, {3, 4}), bias = view(b, {4});
  CHECK(caught([&] {
          linear(x, view(w, {4, 3}), kNone);
        }).is(ErrorKind::kShape, {"linear", "(2,3)", "(4,3)"}));
  CHECK(caught([&] { linear(x, view(w, {12}), kNone); }).is(ErrorKind::kShape, {"(12)"}));
  CHECK(caught([&] { linear(tape.input(view(one, {})), weight, kNone); }).is(ErrorKind::kShape));
  CHECK(caught([&] {
          linear(x, weight, view(wrong, {5}));
        }).is(ErrorKind::kShape, {"linear", "bias", "(4)", "(5)"}));
  CHECK(caught([&] { linear(view(v, {2, 3}), weight, bias); }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] {
          linear(x, weight, bias, {.residual = &x});
        }).is(ErrorKind::kShape, {"residual", "(2,4)"}));
  const std::vector<float> r(8);
  const Tensor residual = view(r, {2, 4});
  CHECK(caught([&] {
          linear(x, weight, bias, {.residual = &residual, .gelu = true});
        }).is(ErrorKind::kValue, {"gelu", "residual"}));
  const std::vector<double> wd(12);
  CHECK(caught([&] { linear(x, view(wd, {3, 4}), kNone); }).is(ErrorKind::kDtype, {"f64", "f32"}));
}

TEST_CASE("grouped_linear: every expert is a linear layer of its rows") {
  const std::vector<int32_t> offset = {0, 0, 5, 6, 6, 120, 123};
  const std::vector<Shape> shapes = {{123, 19}, {6, 19, 50}, {6, 50}};
  const auto in = float_inputs(shapes);
  for (const bool gelu : {false, true}) {
    const auto all = run_op<float>(grouped_of(offset, true, gelu), shapes, in);
    const auto cotangent = values<float>(123 * 50, 1000);
    for (size_t e = 0; e < 6; ++e) {
      CAPTURE(e);
      const int64_t begin = offset[e], rows = offset[e + 1] - begin;
      const auto cut = [](const std::vector<float>& v, int64_t from, int64_t count) {
        return std::vector<float>(v.begin() + from, v.begin() + from + count);
      };
      const Variant v{"", true, false, gelu};
      const auto index = static_cast<int64_t>(e);
      const auto one = run_op<float>(linear_of(v), {Shape{rows, 19}, Shape{19, 50}, Shape{50}},
                                     {cut(in[0], begin * 19, rows * 19),
                                      cut(in[1], index * 950, 950), cut(in[2], index * 50, 50)},
                                     cut(cotangent, begin * 50, rows * 50));
      CHECK(test::same_bytes(one.y, cut(all.y, begin * 50, rows * 50)));
      CHECK(test::same_bytes(one.grads[0], cut(all.grads[0], begin * 19, rows * 19)));
      CHECK(distance(cut(all.grads[1], index * 950, 950), one.grads[1]) < 1e-6);
      CHECK(distance(cut(all.grads[2], index * 50, 50), one.grads[2]) < 1e-6);
    }
  }
}

TEST_CASE("grouped_linear: one expert has the bits of a linear layer") {
  const std::vector<int32_t> offset = {0, 77};
  const auto in = float_inputs({{77, 64}, {64, 40}, {40}});
  const auto dense = run_op<float>(linear_of(kVariants[4]), {{77, 64}, {64, 40}, {40}}, in);
  const auto grouped =
      run_op<float>(grouped_of(offset, true, true), {{77, 64}, {1, 64, 40}, {1, 40}}, in);
  CHECK(test::same_bytes(dense.y, grouped.y));
  for (size_t k = 0; k < 3; ++k) CHECK(test::same_bytes(dense.grads[k], grouped.grads[k]));
}

TEST_CASE("grouped_linear: gradient with empty experts") {
  for (const std::vector<int32_t>& offset :
       {std::vector<int32_t>{0, 5}, {0, 0, 2, 2, 5}, {0, 3, 5, 5}, {0, 0, 0}}) {
    const int64_t e = static_cast<int64_t>(offset.size()) - 1, s = offset.back();
    const std::vector<Shape> shapes = {{s, 3}, {e, 3, 2}, {e, 2}};
    for (const bool bias : {false, true}) {
      for (const bool gelu : {false, true}) {
        auto report = gradcheck(grouped_of(offset, bias, gelu), shapes);
        CHECK_MESSAGE(report.ok(), report);
        report = gradcheck(grouped_of(offset, bias, gelu, GeluForm::kErf), shapes);
        CHECK_MESSAGE(report.ok(), report);
      }
    }
  }
}

TEST_CASE("grouped_linear: gradient where parameters are intermediates and used twice") {
  const std::vector<int32_t> offset = {0, 2, 2, 5};
  const auto f = [&](std::span<const Tensor> x) {
    const Tensor w = scale(x[1], 2), b = scale(x[2], 3);
    const Tensor h = grouped_of(offset, true, true)(std::vector<Tensor>{x[0], w, b});
    return grouped_of(offset, true)(std::vector<Tensor>{h, w, b});
  };
  const auto report = gradcheck(f, {Shape{5, 3}, Shape{3, 3, 3}, Shape{3, 3}});
  CHECK_MESSAGE(report.ok(), report);
  const std::vector<int32_t> large = {0, 200, 200, 203, 500};
  CHECK(gradcheck_along(grouped_of(large, true, true), {{500, 40}, {4, 40, 60}, {4, 60}}).ok());
}

TEST_CASE("grouped_linear: same bits for any number of threads") {
  const std::vector<int32_t> offset = {0, 100, 100, 107, 400};
  const std::vector<Shape> shapes = {{400, 70}, {4, 70, 130}, {4, 130}};
  CHECK(test::op_same_bits_for_threads<float>(grouped_of(offset, true, true), shapes));
  CHECK(test::op_same_bits_for_threads<double>(grouped_of(offset, true), shapes));
}

TEST_CASE("grouped_linear: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(6), w(24), b(8), r(8);
  const std::vector<int32_t> good = {0, 1, 2}, late = {1, 1, 2}, few = {0, 1, 1},
                             more = {0, 0, 1, 2};
  const Tensor x = tape.input(view(v, {2, 3})), weight = view(w, {2, 3, 4}), bias = view(b, {2, 4});
  const Tensor offset = view(good, {3}), residual = view(r, {2, 4});
  CHECK(caught([&] { grouped_linear(x, weight, bias, offset); }).kind == std::nullopt);
  CHECK(caught([&] {
          grouped_linear(x, view(w, {2, 4, 3}), kNone, offset);
        }).is(ErrorKind::kShape, {"grouped_linear", "(2,3)", "(2,4,3)"}));
  CHECK(caught([&] { grouped_linear(x, view(w, {6, 4}), kNone, offset); }).is(ErrorKind::kShape));
  CHECK(caught([&] {
          grouped_linear(x, weight, view(b, {8}), offset);
        }).is(ErrorKind::kShape, {"bias", "(2,4)", "(8)"}));
  for (const auto* wrong : {&late, &few, &more}) {
    CHECK(caught([&] {
            grouped_linear(x, weight, bias, view(*wrong, {static_cast<int64_t>(wrong->size())}));
          }).is(ErrorKind::kShape, {"offset", "2"}));
  }
  const std::vector<int32_t> down = {0, 3, 2};
  CHECK(caught([&] {
          grouped_linear(x, weight, bias, view(down, {3}));
        }).is(ErrorKind::kValue, {"go down"}));
  CHECK(caught([&] {
          grouped_linear(x, weight, bias, offset, {.residual = &residual});
        }).is(ErrorKind::kValue, {"residual"}));
  CHECK(caught([&] {
          grouped_linear(view(v, {2, 3}), weight, bias, offset);
        }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] {
          grouped_linear(x, weight, bias, view(v, {6}));
        }).is(ErrorKind::kDtype, {"i32"}));
}

TEST_CASE("linear: column sums add to what is there") {
  for (const int64_t cols : {1, 7, 16, 33}) {
    const auto x = values<double>(50 * cols, 4);
    const int32_t offset[4] = {0, 0, 47, 50};
    std::vector<double> sums(static_cast<size_t>(3 * cols), 2);
    kernels::add_column_sums(Cpu{}, x.data(), offset, 3, {50, cols}, sums.data());
    std::vector<double> want(sums.size(), 2);
    for (int64_t r = 0; r < 50; ++r) {
      for (int64_t c = 0; c < cols; ++c) want[(r < 47 ? 1 : 2) * cols + c] += x[r * cols + c];
    }
    CHECK(distance(sums, want) < 1e-14);
  }
}

TEST_CASE("linear: gelu_backward may write over its input") {
  const auto z = values<float>(100, 1, 3), dh = values<float>(100, 2);
  std::vector<float> apart(100), in_place = dh;
  kernels::gelu_backward(Cpu{}, z.data(), dh.data(), apart.data(), 100, GeluForm::kTanh);
  kernels::gelu_backward(Cpu{}, z.data(), in_place.data(), in_place.data(), 100, GeluForm::kTanh);
  CHECK(test::same_bytes(apart, in_place));
}
