#include "engine/ops/layer_norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/pointwise.h"
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

Tensor norm_of(std::span<const Tensor> x) { return layer_norm(x[0], x[1], x[2]); }

template <class T>
std::vector<double> naive_norm(const std::vector<std::vector<T>>& in, int64_t cols, double eps) {
  const std::vector<T>& x = in[0];
  std::vector<double> y(x.size());
  for (size_t at = 0; at < x.size(); at += static_cast<size_t>(cols)) {
    double mean = 0, var = 0;
    for (int64_t c = 0; c < cols; ++c) mean += x[at + c] / double(cols);
    for (int64_t c = 0; c < cols; ++c)
      var += (x[at + c] - mean) * (x[at + c] - mean) / double(cols);
    for (int64_t c = 0; c < cols; ++c) {
      y[at + c] = (x[at + c] - mean) / std::sqrt(var + eps) * in[1][c] + in[2][c];
    }
  }
  return y;
}

template <class T>
std::vector<std::vector<T>> inputs_of(const Shape& shape, double offset = 0) {
  const int64_t cols = shape[-1];
  auto x = values<T>(shape.numel(), 1, 2);
  for (T& v : x) v += static_cast<T>(offset);
  return {x, values<T>(cols, 2), values<T>(cols, 3)};
}

}  // namespace

TEST_CASE("layer_norm: matches a naive f64 reference") {
  for (const Shape& shape :
       {Shape{1}, Shape{2, 1}, Shape{3, 7}, Shape{2, 3, 8}, Shape{4, 15}, Shape{4, 16},
        Shape{4, 17}, Shape{65, 300}, Shape{2, 20'000}, Shape{0, 5}}) {
    CAPTURE(shape);
    const Shape row{shape[-1]};
    const auto x = inputs_of<float>(shape);
    const auto xd = inputs_of<double>(shape);
    CHECK(distance(run_op<float>(norm_of, {shape, row, row}, x).y, naive_norm(x, shape[-1], 1e-6)) <
          2e-6);
    CHECK(distance(run_op<double>(norm_of, {shape, row, row}, xd).y,
                   naive_norm(xd, shape[-1], 1e-6)) < 1e-13);
  }
}

TEST_CASE("layer_norm: the variance is computed around the mean") {
  // Mean 1000, spread 1: x^2 - mean^2 in f32 would keep one digit.
  for (const int64_t cols : {19, 192}) {
    const auto x = inputs_of<float>({5, cols}, 1000);
    const auto y = run_op<float>(norm_of, {Shape{5, cols}, Shape{cols}, Shape{cols}}, x).y;
    CHECK(distance(y, naive_norm(x, cols, 1e-6)) < 3e-4);
  }
}

TEST_CASE("layer_norm: eps is added to the variance") {
  for (const double eps : {1e-6, 1e-2, 10.0}) {
    const auto f = [eps](std::span<const Tensor> x) { return layer_norm(x[0], x[1], x[2], eps); };
    const auto x = inputs_of<double>({4, 9});
    CHECK(distance(run_op<double>(f, {Shape{4, 9}, Shape{9}, Shape{9}}, x).y,
                   naive_norm(x, 9, eps)) < 1e-14);
    CHECK(gradcheck(f, {Shape{4, 9}, Shape{9}, Shape{9}}).ok());
  }
  // A constant row has no variance: what remains is the bias.
  std::vector<std::vector<float>> x = {std::vector<float>(20, 3.3f), values<float>(20, 1),
                                       values<float>(20, 2)};
  const auto y = run_op<float>(norm_of, {Shape{1, 20}, Shape{20}, Shape{20}}, x).y;
  CHECK(distance(y, x[2]) < 1e-3);
}

TEST_CASE("layer_norm: gradient of every input") {
  for (const Shape& shape : {Shape{5}, Shape{3, 2}, Shape{4, 8}, Shape{2, 3, 9}, Shape{40, 3}}) {
    CAPTURE(shape);
    // Fewer and more rows than chunks of the sums over rows.
    const auto report = gradcheck(norm_of, {shape, Shape{shape[-1]}, Shape{shape[-1]}});
    CHECK_MESSAGE(report.ok(), report);
  }
  const auto report = test::gradcheck_along(norm_of, {Shape{257, 100}, Shape{100}, Shape{100}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("layer_norm: gradient through a chain") {
  const auto f = [](std::span<const Tensor> x) {
    // Scale and bias are used twice, and once as intermediates.
    const Tensor s = scale(x[1], 2), b = scale(x[2], 3);
    return layer_norm(layer_norm(layer_norm(x[0], s, b), x[1], x[2]), s, b);
  };
  const auto report = gradcheck(f, {Shape{3, 5}, Shape{5}, Shape{5}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("layer_norm: gradient when only some inputs want one") {
  const auto one = values<double>(12, 5);
  const auto row = values<double>(4, 6);
  const auto x_only = [&](std::span<const Tensor> x) {
    return layer_norm(x[0], view(row, {4}), view(row, {4}));
  };
  CHECK(gradcheck(x_only, {Shape{3, 4}}).ok());
  const auto params_only = [&](std::span<const Tensor> x) {
    return layer_norm(x[0].tape()->input(view(one, {3, 4})), x[0], x[1]);
  };
  CHECK(gradcheck(params_only, {Shape{4}, Shape{4}}).ok());
  const auto scale_only = [&](std::span<const Tensor> x) {
    return layer_norm(x[0].tape()->input(view(one, {3, 4})), x[0], view(row, {4}));
  };
  const auto scale_report = gradcheck(scale_only, {Shape{4}});
  CHECK_MESSAGE(scale_report.ok(), scale_report);
  const auto bias_only = [&](std::span<const Tensor> x) {
    return layer_norm(x[0].tape()->input(view(one, {3, 4})), view(row, {4}), x[0]);
  };
  const auto bias_report = gradcheck(bias_only, {Shape{4}});
  CHECK_MESSAGE(bias_report.ok(), bias_report);
}

TEST_CASE("layer_norm: same bits for any number of threads") {
  CHECK(test::op_same_bits_for_threads<float>(norm_of, {Shape{513, 197}, Shape{197}, Shape{197}}));
  CHECK(
      test::op_same_bits_for_threads<double>(norm_of, {Shape{20, 1000}, Shape{1000}, Shape{1000}}));
}

TEST_CASE("layer_norm: same bits in batches of 1 and 7 and 256") {
  CHECK(test::batch_shows_nowhere<float>(norm_of, {192}, {Shape{192}, Shape{192}}));
  CHECK(test::batch_shows_nowhere<float>(norm_of, {5, 37}, {Shape{37}, Shape{37}}));
  CHECK(test::batch_shows_nowhere<double>(norm_of, {5, 37}, {Shape{37}, Shape{37}}));
}

TEST_CASE("layer_norm: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(6), row(3), long_row(4), none;
  const Tensor x = tape.input(view(v, {2, 3})), s = view(row, {3});
  CHECK(caught([&] { layer_norm(view(v, {2, 3}), s, s); }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] {
          layer_norm(x, view(long_row, {4}), s);
        }).is(ErrorKind::kShape, {"layer_norm", "(3)", "(4)"}));
  CHECK(caught([&] { layer_norm(x, s, view(long_row, {4})); }).is(ErrorKind::kShape, {"(4)"}));
  CHECK(caught([&] { layer_norm(x, s, s, 0); }).is(ErrorKind::kValue, {"eps", "0"}));
  CHECK(caught([&] { layer_norm(x, s, s, -1); }).is(ErrorKind::kValue, {"-1"}));
  CHECK(caught([&] { layer_norm(x, s, s, std::nan("")); }).is(ErrorKind::kValue));
  CHECK(caught([&] {
          layer_norm(tape.input(view(none, {2, 0})), view(none, {0}), view(none, {0}));
        }).is(ErrorKind::kShape, {"(2,0)"}));
  std::vector<float> one(1);
  CHECK(caught([&] { layer_norm(tape.input(view(one, {})), s, s); }).is(ErrorKind::kShape, {"()"}));
  std::vector<double> d(3);
  CHECK(caught([&] { layer_norm(x, view(d, {3}), s); }).is(ErrorKind::kDtype, {"f64", "f32"}));
}
