#include "engine/ops/pointwise.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/core/precision.h"
#include "engine/ops/pointwise_kernels.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

struct Op {
  const char* name;
  test::Function f;
  double (*naive)(double, double);
};

const std::vector<Op>& all_ops() {
  static const std::vector<Op> ops = {
      {"add", [](std::span<const Tensor> x) { return add(x[0], x[1]); },
       [](double a, double b) { return a + b; }},
      {"multiply", [](std::span<const Tensor> x) { return multiply(x[0], x[1]); },
       [](double a, double b) { return a * b; }},
      {"scale", [](std::span<const Tensor> x) { return scale(x[0], -0.75); },
       [](double a, double) { return -0.75 * a; }},
      {"tanh", [](std::span<const Tensor> x) { return engine::tanh(x[0]); },
       [](double a, double) { return std::tanh(a); }},
      {"relu", [](std::span<const Tensor> x) { return relu(x[0]); },
       [](double a, double) { return std::max(a, 0.0); }},
  };
  return ops;
}

template <class T>
double error_of(const Op& op, int64_t n) {
  const auto a = values<T>(n, 1, 3), b = values<T>(n, 2, 3);
  std::vector<double> want(a.size());
  for (size_t i = 0; i < a.size(); ++i) want[i] = op.naive(a[i], b[i]);
  return distance(run_op<T>(op.f, {Shape{n}, Shape{n}}, {a, b}).y, want);
}

}  // namespace

TEST_CASE("pointwise: match naive f64 references") {
  for (const Op& op : all_ops()) {
    CAPTURE(op.name);
    for (const int64_t n : {0, 1, 7, 8, 9, 15, 16, 17, 16383, 16385, 50'001}) {
      CAPTURE(n);
      CHECK(error_of<float>(op, n) < 2e-7);
      CHECK(error_of<double>(op, n) < 4e-16);
    }
  }
}

TEST_CASE("pointwise: gradients") {
  for (const Op& op : all_ops()) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{2, 9}, Shape{2, 2, 2, 2}}) {
      const auto report = gradcheck(op.f, {shape, shape});
      CHECK_MESSAGE(report.ok(), op.name, " ", report);
    }
    CHECK(test::gradcheck_along(op.f, {Shape{40'001}, Shape{40'001}}).ok());
  }
}

TEST_CASE("pointwise: gradients in chains") {
  const auto same_twice = [](std::span<const Tensor> x) { return multiply(x[0], x[0]); };
  CHECK(gradcheck(same_twice, {Shape{7}}).ok());
  const auto added_twice = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 3);
    return add(add(y, y), y);
  };
  CHECK(gradcheck(added_twice, {Shape{7}}).ok());
  const auto mixed = [](std::span<const Tensor> x) {
    const Tensor y = add(x[0], x[1]);
    const Tensor z = engine::tanh(multiply(y, scale(y, 0.5)));
    return multiply(add(z, y), engine::tanh(add(y, z)));
  };
  const auto report = gradcheck(mixed, {Shape{2, 5}, Shape{2, 5}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("pointwise: gradient when only one input wants one") {
  const auto v = values<double>(5, 9);
  const auto left = [&](std::span<const Tensor> x) {
    return add(multiply(x[0], view(v, {5})), view(v, {5}));
  };
  CHECK(gradcheck(left, {Shape{5}}).ok());
  const auto right = [&](std::span<const Tensor> x) {
    const Tensor fixed = x[0].tape()->input(view(v, {5}));
    return add(fixed, multiply(fixed, x[0]));
  };
  CHECK(gradcheck(right, {Shape{5}}).ok());
}

TEST_CASE("pointwise: kernels overwrite or add") {
  const std::vector<float> a = values<float>(19, 1), b = values<float>(19, 2);
  std::vector<float> y(19, 10);
  kernels::put_product(Cpu{}, a.data(), b.data(), y.data(), 19, GradWrite::kAccumulate);
  CHECK(y[18] == doctest::Approx(10 + a[18] * b[18]));
  kernels::put_product(Cpu{}, a.data(), b.data(), y.data(), 19, GradWrite::kOverwrite);
  CHECK(y[18] == doctest::Approx(a[18] * b[18]));
  kernels::put_scaled(Cpu{}, a.data(), 2.0f, y.data(), 19, GradWrite::kAccumulate);
  CHECK(y[3] == doctest::Approx(a[3] * b[3] + 2 * a[3]));
  kernels::tanh_backward(Cpu{}, a.data(), b.data(), y.data(), 19, GradWrite::kOverwrite);
  CHECK(y[3] == doctest::Approx(b[3] * (1 - a[3] * a[3])));
  kernels::tanh_backward(Cpu{}, a.data(), b.data(), y.data(), 19, GradWrite::kAccumulate);
  CHECK(y[18] == doctest::Approx(2 * b[18] * (1 - a[18] * a[18])));
}

TEST_CASE("round_bf16: to the nearest, ties to even, values and gradients alike") {
  const std::vector<float> x = {1.f,          1.00390625f, 1.01171875f, 1.0078125f,
                                -3.14159265f, 0.f,         1e-40f,      3.3e38f};
  const std::vector<float> want = {1.f,        1.f, 1.015625f,       1.0078125f,
                                   -3.140625f, 0.f, 9.18354962e-41f, 3.296485e38f};
  const auto f = [](std::span<const Tensor> in) { return round_bf16(in[0]); };
  const auto run = run_op<float>(f, {Shape{8}}, {x}, x);
  for (size_t i = 0; i < x.size(); ++i) {
    CAPTURE(x[i]);
    CHECK(run.y[i] == to_float(to_bf16(x[i])));
    CHECK(run.y[i] == doctest::Approx(want[i]).epsilon(1e-6));
    CHECK(run.grads[0][i] == run.y[i]);
  }
  const std::vector<double> wide(x.begin(), x.end());
  const auto twice = run_op<double>(f, {Shape{8}}, {wide}, wide);
  for (size_t i = 0; i < x.size(); ++i) CHECK(twice.y[i] == run.y[i]);
  // A gradient that adds to another one.
  const auto both = [](std::span<const Tensor> in) { return add(in[0], round_bf16(in[0])); };
  CHECK(run_op<double>(both, {Shape{1}}, {{1.01171875}}, {1}).grads[0][0] == 2);
  CHECK(caught([] { round_bf16(Tensor{}); }).kind == ErrorKind::kValue);
}

TEST_CASE("reshape: shares memory and passes the gradient back") {
  StepArena arena;
  Tape tape(arena);
  const auto v = values<double>(6, 1);
  const Tensor x = tape.input(view(v, {2, 3}));
  CHECK(reshape(x, {6}).raw() == x.raw());
  CHECK(reshape(x, {3, 2}).shape() == Shape{3, 2});
  const auto chain = [](std::span<const Tensor> in) {
    const Tensor y = engine::tanh(in[0]);
    const Tensor flat = reshape(y, {6});
    // y has a gradient by the time that flat hands its own back, and the other way round.
    return add(add(flat, reshape(multiply(y, y), {6})), reshape(reshape(y, {3, 2}), {6}));
  };
  CHECK(gradcheck(chain, {Shape{2, 3}}).ok());
  const auto alone = [](std::span<const Tensor> in) { return reshape(in[0], {1, 6}); };
  CHECK(gradcheck(alone, {Shape{2, 3}}).ok());
}

TEST_CASE("slice: shares memory and gives zeros elsewhere") {
  StepArena arena;
  Tape tape(arena);
  const auto v = values<double>(12, 1);
  const Tensor x = tape.input(view(v, {4, 3}));
  CHECK(slice(x, 1, 3).data<const double>() == v.data() + 3);
  CHECK(slice(x, 1, 3).shape() == Shape{2, 3});
  const auto run =
      run_op<double>([](std::span<const Tensor> in) { return slice(in[0], 1, 2); }, {Shape{4, 3}});
  const auto cotangent = values<double>(3, 1000);
  for (size_t i = 0; i < 12; ++i) {
    CHECK(run.grads[0][i] == (i >= 3 && i < 6 ? cotangent[i - 3] : 0.0));
  }
}

TEST_CASE("slice: gradients of several slices of one tensor add up") {
  const auto halves = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    return multiply(slice(y, 0, 2), slice(y, 2, 4));
  };
  CHECK(gradcheck(halves, {Shape{4, 3}}).ok());
  const auto overlapping = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    // The parent is used whole as well, before and after the slices.
    const Tensor whole = multiply(y, y);
    const Tensor part = multiply(slice(y, 0, 3), engine::tanh(slice(y, 1, 4)));
    return add(part, slice(add(whole, y), 1, 4));
  };
  const auto report = gradcheck(overlapping, {Shape{5, 2}});
  CHECK_MESSAGE(report.ok(), report);
  const auto of_a_leaf = [](std::span<const Tensor> x) {
    return multiply(slice(x[0], 0, 1), slice(slice(x[0], 1, 3), 1, 2));
  };
  CHECK(gradcheck(of_a_leaf, {Shape{3, 2}}).ok());
}

TEST_CASE("pointwise: same bits for any number of threads") {
  for (const Op& op : all_ops()) {
    CAPTURE(op.name);
    CHECK(test::op_same_bits_for_threads<float>(op.f, {Shape{100'003}, Shape{100'003}}));
  }
}

TEST_CASE("pointwise: reject what they cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(6), other(6);
  std::vector<double> d(6);
  const Tensor x = tape.input(view(v, {2, 3})), y = view(other, {3, 2});
  CHECK(caught([&] { add(x, y); }).is(ErrorKind::kShape, {"add", "(2,3)", "(3,2)"}));
  CHECK(caught([&] { multiply(x, y); }).is(ErrorKind::kShape, {"multiply", "(2,3)", "(3,2)"}));
  CHECK(caught([&] { reshape(x, {7}); }).is(ErrorKind::kShape, {"(2,3)", "(7)"}));
  CHECK(caught([&] { slice(x, 1, 3); }).is(ErrorKind::kShape, {"1 to 3", "(2,3)"}));
  CHECK(caught([&] { add(x, view(d, {2, 3})); }).is(ErrorKind::kDtype, {"f64", "f32"}));
  CHECK(caught([&] { multiply(x, view(d, {2, 3})); }).is(ErrorKind::kDtype));
  CHECK(caught([&] { add(y, x); }).is(ErrorKind::kValue, {"add", "tape"}));
  CHECK(caught([&] { multiply(y, x); }).is(ErrorKind::kValue, {"multiply"}));
  CHECK(caught([&] { scale(y, 2); }).is(ErrorKind::kValue, {"scale"}));
  CHECK(caught([&] { engine::tanh(y); }).is(ErrorKind::kValue, {"tanh"}));
  CHECK(caught([&] { relu(y); }).is(ErrorKind::kValue, {"relu"}));
  CHECK(caught([&] { reshape(y, {6}); }).is(ErrorKind::kValue, {"reshape"}));
  CHECK(caught([&] { slice(y, 0, 1); }).is(ErrorKind::kValue, {"slice"}));
}

TEST_CASE("pointwise: relu of zero, of NaN and of infinity") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.f, -0.f, nan, inf, -inf, 1.f, -1.f};
  const auto run = run_op<float>([](std::span<const Tensor> in) { return relu(in[0]); }, {Shape{7}},
                                 {x}, std::vector<float>(7, 2.f));
  CHECK(std::isnan(run.y[2]));
  CHECK(run.y[3] == inf);
  for (const size_t i : {0, 1, 4, 6}) {
    CHECK(run.y[i] == 0);
    CHECK(run.grads[0][i] == 0);
  }
  CHECK(run.grads[0][3] == 2);
  CHECK(run.grads[0][5] == 2);
}
