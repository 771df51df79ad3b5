#include "engine/ops/unit_rows.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/unit_rows_kernels.h"
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

Tensor plain(std::span<const Tensor> x) { return unit_rows(x[0]); }
Tensor scaled(std::span<const Tensor> x) { return unit_rows(x[0], x[1]); }

}  // namespace

TEST_CASE("unit_rows: matches plain loops") {
  for (const Shape& shape : {Shape{1}, Shape{3, 7}, Shape{2, 3, 17}, Shape{40, 192}, Shape{0, 4}}) {
    CAPTURE(shape);
    const RowsCols size = fold_rows(shape);
    const auto x = values<double>(shape.numel(), 1);
    std::vector<double> want(x.size());
    for (int64_t r = 0; r < size.rows; ++r) {
      double sum = 1e-6;
      for (int64_t c = 0; c < size.cols; ++c) sum += x[r * size.cols + c] * x[r * size.cols + c];
      for (int64_t c = 0; c < size.cols; ++c) {
        want[r * size.cols + c] = -2.5 * x[r * size.cols + c] / std::sqrt(sum);
      }
    }
    CHECK(distance(run_op<double>(scaled, {shape, {1}}, {x, {-2.5}}).y, want) < 1e-14);
    const auto y = run_op<float>(scaled, {shape, {1}}, {values<float>(shape.numel(), 1), {-2.5f}});
    CHECK(distance(y.y, want) < 1e-6);
  }
}

TEST_CASE("unit_rows: eps counts where a row is small, a row of zeros stays") {
  const auto y = run_op<double>(plain, {Shape{2, 2}}, {{1e-3, 0, 0, 0}}).y;
  CHECK(y[0] == doctest::Approx(1e-3 / std::sqrt(2e-6)).epsilon(1e-12));
  CHECK(y[2] == 0);
}

TEST_CASE("unit_rows: gradient") {
  for (const Shape& shape : {Shape{1}, Shape{4, 5}, Shape{2, 3, 6}, Shape{2, 17}}) {
    CAPTURE(shape);
    CHECK(gradcheck(plain, {shape}).ok());
    const auto report = gradcheck(scaled, {shape, {1}});
    CHECK_MESSAGE(report.ok(), report);
  }
  const auto twice = [](std::span<const Tensor> x) {
    return unit_rows(unit_rows(x[0], x[1]), x[1]);
  };
  CHECK(gradcheck(twice, {Shape{3, 4}, {1}}).ok());
  CHECK(test::gradcheck_along(scaled, {Shape{200, 197}, {1}}).ok());
}

TEST_CASE("unit_rows: backward overwrites or adds") {
  const double x[2] = {3, 4}, norm = 0.2, dy[2] = {1, 0};
  double dx[2] = {10, 10}, dfactor = 10;
  kernels::unit_rows_backward<double>(Cpu{}, x, nullptr, &norm, dy, dx, {1, 2},
                                      GradWrite::kAccumulate);
  CHECK(dx[0] == doctest::Approx(10 + 0.2 * (1 - 0.04 * 9)));
  CHECK(dx[1] == doctest::Approx(10 - 0.2 * 0.04 * 12));
  kernels::unit_rows_backward<double>(Cpu{}, x, nullptr, &norm, dy, dx, {1, 2},
                                      GradWrite::kOverwrite);
  CHECK(dx[0] == doctest::Approx(0.2 * (1 - 0.04 * 9)));
  kernels::unit_rows_backward_factor(Cpu{}, x, &norm, dy, &dfactor, {1, 2}, GradWrite::kAccumulate);
  CHECK(dfactor == doctest::Approx(10.6));
  kernels::unit_rows_backward_factor(Cpu{}, x, &norm, dy, &dfactor, {1, 2}, GradWrite::kOverwrite);
  CHECK(dfactor == doctest::Approx(0.6));
}

TEST_CASE("unit_rows: same bits for any number of threads and any batch") {
  CHECK(test::op_same_bits_for_threads<float>(scaled, {Shape{1000, 197}, {1}}));
  CHECK(test::op_same_bits_for_threads<double>(scaled, {Shape{513, 33}, {1}}));
  CHECK(test::batch_shows_nowhere<float>(plain, Shape{3, 42}, {}));
}

TEST_CASE("unit_rows: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(2);
  const Tensor x = tape.input(view(v, {2}));
  CHECK(caught([&] { unit_rows(view(v, {2})); }).is(ErrorKind::kValue, {"unit_rows", "tape"}));
  CHECK(caught([&] { unit_rows(x, x); }).is(ErrorKind::kShape, {"unit_rows", "one factor", "(2)"}));
  CHECK(caught([&] {
          unit_rows(tape.input(view(std::vector<float>(1), {})));
        }).is(ErrorKind::kShape, {"unit_rows"}));
}
