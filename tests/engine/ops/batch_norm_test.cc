#include "engine/ops/batch_norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
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

// Inputs: x, scale, bias and, with a residual, that.
test::Function op_of(bool residual, bool relu, double eps = 1e-5) {
  return [=](std::span<const Tensor> x) {
    return batch_norm(x[0], x[1], x[2], nullptr, 0.1, eps, {residual ? &x[3] : nullptr, relu});
  };
}
// The same with given statistics, as inputs after the others.
template <class T>
test::Function fixed_op_of(bool residual, bool relu, const std::vector<T>& mean,
                           const std::vector<T>& var) {
  return [=, &mean, &var](std::span<const Tensor> x) {
    const Shape row{x[0].shape()[-1]};
    return batch_norm_fixed(x[0], x[1], x[2], {view(mean, row), view(var, row)}, 1e-5,
                            {residual ? &x[3] : nullptr, relu});
  };
}

std::vector<Shape> shapes_of(const Shape& x, bool residual) {
  std::vector<Shape> all = {x, {x[-1]}, {x[-1]}};
  if (residual) all.push_back(x);
  return all;
}

struct Columns {
  std::vector<double> mean, var;
};
template <class T>
Columns columns_of(const std::vector<T>& x, int64_t cols) {
  const int64_t rows = static_cast<int64_t>(x.size()) / cols;
  Columns out{std::vector<double>(static_cast<size_t>(cols)),
              std::vector<double>(static_cast<size_t>(cols))};
  for (size_t i = 0; i < x.size(); ++i) out.mean[i % size_t(cols)] += x[i] / double(rows);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % size_t(cols);
    out.var[c] += (x[i] - out.mean[c]) * (x[i] - out.mean[c]) / double(rows);
  }
  return out;
}

template <class T>
std::vector<double> naive_norm(const std::vector<std::vector<T>>& in, const Columns& columns,
                               bool relu, double eps = 1e-5) {
  const size_t cols = in[1].size();
  std::vector<double> y(in[0].size());
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t c = i % cols;
    y[i] = (in[0][i] - columns.mean[c]) / std::sqrt(columns.var[c] + eps) * in[1][c] + in[2][c];
    if (in.size() > 3) y[i] += in[3][i];
    if (relu && y[i] < 0) y[i] = 0;
  }
  return y;
}

template <class T>
std::vector<std::vector<T>> inputs_of(const Shape& x, bool residual, double offset = 0) {
  std::vector<std::vector<T>> in;
  for (const Shape& s : shapes_of(x, residual)) in.push_back(values<T>(s.numel(), in.size() + 1));
  for (T& v : in[0]) v += static_cast<T>(offset);
  return in;
}

const std::vector<Shape> kShapes = {{2, 1},    {3, 7},        {2, 3, 2, 8}, {5, 15},
                                    {40, 16},  {4, 5, 5, 17}, {1000, 3},    {130, 300},
                                    {2, 5000}, {9, 32, 32, 4}};

}  // namespace

TEST_CASE("batch_norm: matches a naive f64 reference") {
  for (const Shape& shape : kShapes) {
    for (const bool residual : {false, true}) {
      for (const bool relu : {false, true}) {
        CAPTURE(shape);
        CAPTURE(residual);
        CAPTURE(relu);
        const int64_t cols = shape[-1];
        const auto x = inputs_of<float>(shape, residual);
        const auto xd = inputs_of<double>(shape, residual);
        const auto f = op_of(residual, relu);
        CHECK(distance(run_op<float>(f, shapes_of(shape, residual), x).y,
                       naive_norm(x, columns_of(x[0], cols), relu)) < 1e-5);
        CHECK(distance(run_op<double>(f, shapes_of(shape, residual), xd).y,
                       naive_norm(xd, columns_of(xd[0], cols), relu)) < 1e-12);
      }
    }
  }
}

TEST_CASE("batch_norm: a large mean costs no digits") {
  const Shape shape{4000, 19};
  const auto x = inputs_of<float>(shape, false, 1000);
  const auto want = naive_norm(x, columns_of(x[0], 19), false);
  CHECK(distance(run_op<float>(op_of(false, false), shapes_of(shape, false), x).y, want) < 1e-3);
}

TEST_CASE("batch_norm: a channel without variance becomes its bias") {
  std::vector<std::vector<float>> x = {std::vector<float>(30, 3.3f), {0.5f, 2, 1}, {1, -2, 0}};
  const auto y = run_op<float>(op_of(false, false), shapes_of({10, 3}, false), x).y;
  for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == doctest::Approx(x[2][i % 3]).epsilon(1e-4));
}

TEST_CASE("batch_norm: gradient of every input") {
  for (const Shape& shape : {Shape{2, 1}, Shape{3, 2}, Shape{2, 2, 3, 5}, Shape{40, 3}}) {
    for (const bool residual : {false, true}) {
      for (const bool relu : {false, true}) {
        CAPTURE(shape);
        CAPTURE(residual);
        CAPTURE(relu);
        // Two rows have an almost constant result, whose gradient steps far: eps 1e-2 there.
        const auto f = op_of(residual, relu, shape[0] == 2 ? 1e-2 : 1e-5);
        const auto report = gradcheck(f, shapes_of(shape, residual), 3);
        CHECK_MESSAGE(report.ok(), report);
      }
    }
  }
  const auto report = test::gradcheck_along(op_of(true, false), shapes_of({700, 100}, true));
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("batch_norm: gradient with relu where many tiles and chunks meet") {
  // Along a line many signs change, so a number cannot be a reference: the formula is.
  const Shape shape{300, 70};
  for (const bool residual : {false, true}) {
    const auto in = inputs_of<double>(shape, residual);
    const auto dy = values<double>(shape.numel(), 1000);
    const auto run = run_op<double>(op_of(residual, true), shapes_of(shape, residual), in);
    const Columns columns = columns_of(in[0], 70);
    const auto y = naive_norm(in, columns, true);
    std::vector<double> dscale(70), dbias(70), dx(y.size()), dresidual(y.size());
    const auto normed = [&](size_t i) {
      return (in[0][i] - columns.mean[i % 70]) / std::sqrt(columns.var[i % 70] + 1e-5);
    };
    for (size_t i = 0; i < y.size(); ++i) {
      dresidual[i] = y[i] > 0 ? dy[i] : 0;
      dbias[i % 70] += dresidual[i];
      dscale[i % 70] += dresidual[i] * normed(i);
    }
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t c = i % 70;
      dx[i] = in[1][c] / std::sqrt(columns.var[c] + 1e-5) *
              (dresidual[i] - dbias[c] / 300 - normed(i) * dscale[c] / 300);
    }
    CHECK(distance(run.grads[0], dx) < 1e-12);
    CHECK(distance(run.grads[1], dscale) < 1e-12);
    CHECK(distance(run.grads[2], dbias) < 1e-12);
    if (residual) CHECK(distance(run.grads[3], dresidual) == 0);
  }
}

TEST_CASE("batch_norm: gradient through a chain, where a residual is used twice") {
  const auto f = [](std::span<const Tensor> x) {
    const Tensor a = scale(x[0], 2);
    const Tensor b = batch_norm(a, x[1], x[2], nullptr, 0.1, 1e-5, {&a, true});
    const Tensor c = batch_norm(b, x[1], x[2], nullptr, 0.1, 1e-5, {&a, false});
    return batch_norm(c, x[2], x[1], nullptr, 0.1, 1e-5, {&b, true});
  };
  const auto report = gradcheck(f, {Shape{5, 3}, Shape{3}, Shape{3}}, 4);
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("batch_norm: gradient when only some inputs want one") {
  const auto x = values<double>(12, 5), row = values<double>(4, 6), var = std::vector(4, 0.7);
  const RunningStatistics fixed{view(row, {4}), view(var, {4})};
  const auto input = [&](std::span<const Tensor> in) {
    return in[0].tape()->input(view(x, {3, 4}));
  };
  for (const bool relu : {false, true}) {
    const NormTail tail{nullptr, relu};
    CHECK(gradcheck(
              [&](std::span<const Tensor> in) {
                return batch_norm(in[0], view(row, {4}), view(row, {4}), nullptr, 0.1, 1e-5, tail);
              },
              {Shape{3, 4}})
              .ok());
    CHECK(gradcheck(
              [&](std::span<const Tensor> in) {
                return batch_norm(input(in), in[0], view(row, {4}), nullptr, 0.1, 1e-5, tail);
              },
              {Shape{4}})
              .ok());
    CHECK(gradcheck(
              [&](std::span<const Tensor> in) {
                return batch_norm_fixed(input(in), view(row, {4}), in[0], fixed, 1e-5, tail);
              },
              {Shape{4}})
              .ok());
  }
  // Only the residual.
  const auto residual_only = [&](std::span<const Tensor> in) {
    return batch_norm(input(in), view(row, {4}), view(row, {4}), nullptr, 0.1, 1e-5,
                      {&in[0], true});
  };
  CHECK(gradcheck(residual_only, {Shape{3, 4}}).ok());
}

TEST_CASE("batch_norm: running statistics move towards the batch's") {
  const auto in = inputs_of<double>({50, 3}, false, 2);
  const Columns batch = columns_of(in[0], 3);
  std::vector<double> mean = {1, 2, 3}, var = {4, 5, 6};
  const RunningStatistics running{view(mean, {3}), view(var, {3})};
  const auto f = [&](std::span<const Tensor> x) {
    return batch_norm(x[0], x[1], x[2], &running, 0.25);
  };
  const auto with = run_op<double>(f, shapes_of({50, 3}, false), in);
  for (size_t c = 0; c < 3; ++c) {
    CHECK(mean[c] == doctest::Approx(0.75 * double(c + 1) + 0.25 * batch.mean[c]));
    CHECK(var[c] == doctest::Approx(0.75 * double(c + 4) + 0.25 * batch.var[c] * 50 / 49));
  }
  // What is computed does not depend on them.
  const auto without = run_op<double>(op_of(false, false), shapes_of({50, 3}, false), in);
  CHECK(test::same_bytes(with.y, without.y));
}

TEST_CASE("batch_norm_fixed: matches a naive f64 reference, with gradients") {
  for (const Shape& shape : {Shape{1, 1}, Shape{1, 20}, Shape{4, 5, 3, 17}, Shape{0, 3}}) {
    for (const bool residual : {false, true}) {
      for (const bool relu : {false, true}) {
        CAPTURE(shape);
        const int64_t cols = shape[-1];
        auto mean = values<double>(cols, 11), var = values<double>(cols, 12);
        for (double& v : var) v = 0.2 + v * v;
        const auto f = fixed_op_of(residual, relu, mean, var);
        const auto in = inputs_of<double>(shape, residual);
        CHECK(distance(run_op<double>(f, shapes_of(shape, residual), in).y,
                       naive_norm(in, {mean, var}, relu)) < 1e-13);
        if (shape.numel() == 0) continue;
        const auto report = gradcheck(f, shapes_of(shape, residual));
        CHECK_MESSAGE(report.ok(), report);
      }
    }
  }
}

TEST_CASE("batch_norm: same bits for any number of threads") {
  for (const Shape& shape : {Shape{513, 97}, Shape{5000, 3}, Shape{3, 2000}}) {
    CHECK(test::op_same_bits_for_threads<float>(op_of(true, true), shapes_of(shape, true)));
    CHECK(test::op_same_bits_for_threads<double>(op_of(false, true), shapes_of(shape, false)));
  }
}

TEST_CASE("batch_norm_fixed: same bits in batches of 1 and 7 and 256") {
  for (const bool relu : {false, true}) {
    const auto mean = values<float>(37, 11);
    const auto var = std::vector<float>(37, 0.5f);
    CHECK(test::batch_shows_nowhere<float>(fixed_op_of(false, relu, mean, var), {2, 3, 37},
                                           {Shape{37}, Shape{37}}));
  }
}

TEST_CASE("batch_norm: NaN stays NaN through relu, in its own channel") {
  auto in = inputs_of<float>({6, 5}, false);
  in[0][7] = std::numeric_limits<float>::quiet_NaN();
  const auto y = run_op<float>(op_of(false, true), shapes_of({6, 5}, false), in).y;
  for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i % 5 == 2));
}

TEST_CASE("batch_norm: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(6), row(3), long_row(4);
  const Tensor x = tape.input(view(v, {2, 3})), s = view(row, {3}), l = view(long_row, {4});
  const RunningStatistics bad{s, l};
  CHECK(caught([&] {
          batch_norm(view(v, {2, 3}), s, s, nullptr);
        }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] { batch_norm(x, l, s, nullptr); }).is(ErrorKind::kShape, {"(3)", "(4)"}));
  CHECK(caught([&] { batch_norm(x, s, s, &bad); }).is(ErrorKind::kShape, {"running", "(4)"}));
  CHECK(caught([&] { batch_norm_fixed(x, s, s, bad); }).is(ErrorKind::kShape, {"running", "(4)"}));
  CHECK(caught([&] { batch_norm(x, s, s, nullptr, 0.1, 0); }).is(ErrorKind::kValue, {"eps", "0"}));
  CHECK(caught([&] { batch_norm(x, s, s, nullptr, 1.5); }).is(ErrorKind::kValue, {"1.5"}));
  CHECK(caught([&] {
          batch_norm(x, s, s, nullptr, std::nan(""));
        }).is(ErrorKind::kValue, {"momentum"}));
  const Tensor other = tape.input(view(v, {3, 2}));
  CHECK(caught([&] {
          batch_norm(x, s, s, nullptr, 0.1, 1e-5, {&other});
        }).is(ErrorKind::kShape, {"residual", "(2,3)"}));
  std::vector<float> one(3);
  CHECK(caught([&] {
          batch_norm(tape.input(view(one, {1, 3})), s, s, nullptr);
        }).is(ErrorKind::kValue, {"(1,3)", "2 values"}));
}
