#include "nn/loss/pair_distance.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/softmax.h"
#include "tests/support/gradcheck.h"
#include "tests/support/tensors.h"

using namespace engine::test;
using engine::Shape;
using engine::Tensor;
using nn::Distance;

namespace {

using Ints = std::vector<int32_t>;

// The mean distance over pairs of rows of x.
OpRun<double> distance(const std::vector<double>& x, int64_t width, const Ints& left,
                       const Ints& right, Distance kind) {
  return run_op<double>(
      [&](auto in) {
        const auto n = static_cast<int64_t>(left.size());
        return nn::pair_distance(in[0], view(left, {n}), view(right, {n}), n, kind);
      },
      {Shape{static_cast<int64_t>(x.size()) / width, width}}, {x}, {1});
}

}  // namespace

TEST_CASE("pair distance: by hand") {
  // Two pairs of rows: 0 and 3 far apart, 1 and 3 equal.
  const std::vector<double> gates = {1, 0, .25, .75, .5, .5, .25, .75};
  const OpRun<double> far = distance({1, 0, 0, 1}, 2, {0}, {1}, Distance::kL2);
  CHECK(far.y[0] == doctest::Approx(std::sqrt(2)));
  CHECK(far.grads[0][0] == doctest::Approx(1 / std::sqrt(2)));
  CHECK(far.grads[0][1] == doctest::Approx(-1 / std::sqrt(2)));
  CHECK(far.grads[0][2] == doctest::Approx(-1 / std::sqrt(2)));
  CHECK(distance(gates, 2, {0, 1}, {3, 3}, Distance::kL2).y[0] ==
        doctest::Approx(0.75 * std::sqrt(2) / 2));
  // Nothing in common: log 2. The gradient of an entry that is 0 is 0, not minus infinity.
  const OpRun<double> apart = distance({1, 0, 0, 1}, 2, {0}, {1}, Distance::kJsd);
  CHECK(apart.y[0] == doctest::Approx(std::log(2)));
  CHECK(apart.grads[0][1] == 0);
  CHECK(apart.grads[0][0] == doctest::Approx(std::log(2) / 2));
  const double a = .5 * std::log(1 / .625),
               b = .5 * (.25 * std::log(.25 / .625) + .75 * std::log(.75 / .375));
  CHECK(distance(gates, 2, {0, 1}, {3, 3}, Distance::kJsd).y[0] == doctest::Approx((a + b) / 2));
}

TEST_CASE("pair distance: equal members and no pairs give 0 and a zero gradient") {
  for (const Distance kind : {Distance::kL2, Distance::kJsd}) {
    const OpRun<double> equal = distance({.3, .7, .3, .7}, 2, {0}, {1}, kind);
    CHECK(equal.y[0] == 0);
    CHECK(equal.grads[0] == std::vector<double>(4, 0));
    engine::StepArena arena;
    engine::Tape tape(arena);
    const std::vector<double> x = {.3, .7, .1, .9};
    const Ints nothing = {0};
    const Tensor none = nn::pair_distance(tape.input(view(x, {2, 2})), view(nothing, {1}),
                                          view(nothing, {1}), 0, kind);
    CHECK(none.data<const double>()[0] == 0);
  }
}

TEST_CASE("pair distance: gradient by differences, with shared members, and f32") {
  const Ints left = {0, 1, 2, 0}, right = {3, 3, 4, 5};
  for (const Distance kind : {Distance::kL2, Distance::kJsd}) {
    const auto f = [&](std::span<const Tensor> x) {
      return nn::pair_distance(engine::softmax(x[0]), view(left, {4}), view(right, {4}), 4, kind);
    };
    const auto report = gradcheck(f, {Shape{6, 3}});
    CHECK_MESSAGE(report.ok(), report);
    const OpRun<float> single = run_op<float>(f, {Shape{6, 3}});
    const OpRun<double> twice = run_op<double>(f, {Shape{6, 3}});
    CHECK(single.y[0] == doctest::Approx(twice.y[0]).epsilon(1e-5));
    CHECK(engine::test::distance(single.grads[0], twice.grads[0]) <= 1e-5);
  }
}
