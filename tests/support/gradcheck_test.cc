#include "tests/support/gradcheck.h"

#include <doctest/doctest.h>

#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"

using namespace engine;
using engine::test::gradcheck;
using engine::test::gradcheck_along;

namespace {

// softmax whose backward is wrong on purpose: it contributes nothing.
Tensor broken_softmax(const Tensor& x) {
  Tape quiet(x.tape()->arena());
  Tensor y = softmax(quiet.input(x));
  x.tape()->record("broken_softmax", {x}, y, [x](const Tensor&, Tape& tape) {
    (void)tape.target_zeroed(x);  // asks for the gradient, then adds nothing to it
  });
  return y;
}

// 2x whose backward always overwrites, or always adds.
Tensor careless_double(const Tensor& x, bool adds) {
  Tensor y = x.tape()->arena().empty(x.shape(), x.dtype());
  for (int64_t i = 0; i < x.numel(); ++i) y.data<double>()[i] = 2 * x.data<const double>()[i];
  x.tape()->record("careless_double", {x}, y, [x, adds](const Tensor& dy, Tape& tape) {
    double* dx = tape.target(x).grad.data<double>();
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double g = 2 * dy.data<const double>()[i];
      dx[i] = adds ? dx[i] + g : g;
    }
  });
  return y;
}

}  // namespace

TEST_CASE("gradcheck: fails on a wrong gradient") {
  const auto f = [](std::span<const Tensor> x) { return broken_softmax(x[0]); };
  CHECK_FALSE(gradcheck(f, {Shape{3, 4}}).ok());
  CHECK_FALSE(gradcheck_along(f, {Shape{30, 40}}).ok());
}

TEST_CASE("gradcheck: summing the output would hide it") {
  const auto f = [](std::span<const Tensor> x) { return broken_softmax(x[0]); };
  CHECK(gradcheck(f, {Shape{3, 4}}, 1, 1e-5, /*sum_outputs=*/true).ok());
}

TEST_CASE("gradcheck: fails when a leaf is overwritten or an intermediate is added to") {
  const auto overwrites = [](std::span<const Tensor> x) { return careless_double(x[0], false); };
  CHECK_FALSE(gradcheck(overwrites, {Shape{5}}).ok());
  const auto adds = [](std::span<const Tensor> x) { return careless_double(scale(x[0], 1), true); };
  CHECK_FALSE(gradcheck(adds, {Shape{5}}).ok());
}

TEST_CASE("gradcheck: passes a right gradient and names a wrong one") {
  const auto f = [](std::span<const Tensor> x) { return multiply(x[0], x[1]); };
  CHECK(gradcheck(f, {Shape{2, 3}, Shape{2, 3}}).ok());
  CHECK(gradcheck_along(f, {Shape{20, 30}, Shape{20, 30}}).ok());
  test::GradReport report;
  report.note(0, 4, 1.0, 1.0);
  report.note(1, 2, 1.0, 3.0);
  report.note(1, 3, 1.0, 1.5);
  CHECK(report.input == 1);
  CHECK(report.index == 2);
  CHECK_FALSE(report.ok());
  report.note(0, 0, std::nan(""), 1.0);
  CHECK_FALSE(report.ok());
}
