#include "moe/cnn/image_balance.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "tests/support/gradcheck.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;
using moe::ImageBalance;

namespace {

const std::vector<double> kScores = {.7, .1, .1, .1, .4,  .3,  .2,  .1,
                                     .1, .6, .2, .1, .25, .25, .26, .24};

OpRun<double> balance(const std::vector<double>& s, int64_t experts, ImageBalance kind) {
  const Shape shape{static_cast<int64_t>(s.size()) / experts, experts};
  return run_op<double>([&](auto x) { return moe::image_balance_loss(x[0], kind); }, {shape}, {s},
                        {1});
}

constexpr ImageBalance kAll[] = {ImageBalance::kSwitch, ImageBalance::kEntropy,
                                 ImageBalance::kColumnEntropy, ImageBalance::kVariance};

}  // namespace

TEST_CASE("image balance: the worked example") {
  CHECK(std::abs(balance(kScores, 4, ImageBalance::kSwitch).y[0] - .2275) <= 1e-12);
  CHECK(std::abs(balance(kScores, 4, ImageBalance::kEntropy).y[0] + .14342423) <= 5e-9);
  CHECK(std::abs(balance(kScores, 4, ImageBalance::kColumnEntropy).y[0] + 1.31719834) <= 5e-9);
  CHECK(std::abs(balance(kScores, 4, ImageBalance::kVariance).y[0] - 1.07695783) <= 5e-9);
}

TEST_CASE("image balance: ranges") {
  const std::vector<double> collapsed = {1, 0, 0, 0, 1, 0, 0, 0}, even(8, .25);
  const std::vector<double> spread = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  const double ln4 = std::log(4.0);
  CHECK(balance(collapsed, 4, ImageBalance::kSwitch).y[0] == doctest::Approx(3));
  CHECK(balance(spread, 4, ImageBalance::kSwitch).y[0] == doctest::Approx(0).scale(1));
  CHECK(balance(spread, 4, ImageBalance::kEntropy).y[0] == doctest::Approx(-ln4));
  CHECK(balance(even, 4, ImageBalance::kEntropy).y[0] == doctest::Approx(0).scale(1));
  CHECK(balance(collapsed, 4, ImageBalance::kEntropy).y[0] == doctest::Approx(0).scale(1));
  CHECK(balance(even, 4, ImageBalance::kColumnEntropy).y[0] == doctest::Approx(-ln4));
  CHECK(balance(collapsed, 4, ImageBalance::kColumnEntropy).y[0] == doctest::Approx(0).scale(1));
  // A zero gives no NaN: its logarithm is that of 1e-5.
  const auto run = balance(collapsed, 4, ImageBalance::kColumnEntropy);
  CHECK(run.grads[0][1] == doctest::Approx(std::log(1e-5) / 2));
  CHECK(run.grads[0][0] == doctest::Approx(0.5));
  for (const ImageBalance kind : kAll) {
    const auto of_collapsed = balance(collapsed, 4, kind);
    for (const double g : of_collapsed.grads[0]) CHECK(std::isfinite(g));
    CHECK(std::isfinite(balance({.5, .2, .3}, 3, kind).y[0]));  // a single image
  }
}

TEST_CASE("image balance: gradients") {
  for (const ImageBalance kind : kAll) {
    CAPTURE(static_cast<int>(kind));
    const auto f = [kind](std::span<const Tensor> x) {
      return moe::image_balance_loss(engine::softmax(x[0]), kind);
    };
    for (const Shape& shape : {Shape{1, 3}, Shape{2, 2}, Shape{7, 4}, Shape{5, 1}}) {
      const auto report = gradcheck(f, {shape});
      CHECK_MESSAGE(report.ok(), report);
    }
    const auto twice = [&](std::span<const Tensor> x) { return engine::add(f(x), f(x)); };
    CHECK(gradcheck(twice, {Shape{4, 3}}).ok());
  }
}

TEST_CASE("expert spread: the worked example, and experts without images") {
  // Means .2, .5, .1 and .9 of three, one, two and two rows; and one expert more that got none.
  const std::vector<double> outputs = {.1, .3, .2,  .2,  .25, .15, .5, .5,
                                       .1, .1, .05, .15, .9,  .9,  1,  .8};
  const std::vector<int32_t> all = {0, 3, 4, 6, 8}, idle = {0, 3, 4, 4, 6, 8};
  const auto loss = [&](const std::vector<int32_t>& offset) {
    return run_op<double>(
        [&](auto x) {
          return moe::expert_spread_loss(x[0], view(offset, {int64_t(offset.size())}));
        },
        {Shape{8, 2}}, {outputs}, {1});
  };
  // The specification has .64046330, which is f32.
  CHECK(std::abs(loss(all).y[0] - .64046326) <= 5e-9);
  CHECK(std::abs(loss(idle).y[0] - .64046326) <= 5e-9);
  const std::vector<int32_t> one = {0, 8, 8};
  const auto of_one = loss(one);
  CHECK(of_one.y[0] == 0);
  for (const double g : of_one.grads[0]) CHECK(g == 0);
  for (const std::vector<int32_t>& offset : {all, idle}) {
    const auto f = [&](std::span<const Tensor> x) {
      return moe::expert_spread_loss(engine::scale(x[0], 0.3),
                                     view(offset, {int64_t(offset.size())}));
    };
    const auto report = gradcheck(f, {Shape{8, 2}});
    CHECK_MESSAGE(report.ok(), report);
  }
  // Far apart: nothing to push.
  const auto far =
      run_op<double>([&](auto x) { return moe::expert_spread_loss(x[0], view(all, {5})); },
                     {Shape{8, 1}}, {{0, 0, 0, 5, 9, 9, -7, -7}}, {1});
  CHECK(far.y[0] == 0);
  for (const double g : far.grads[0]) CHECK(g == 0);
}

TEST_CASE("image balance: rejects what it cannot do") {
  engine::StepArena arena;
  engine::Tape tape(arena);
  std::vector<double> v(8), none;
  std::vector<int32_t> offset = {0, 2, 3};
  CHECK(caught([&] {
          moe::image_balance_loss(tape.input(view(v, {8})), ImageBalance::kSwitch);
        }).is(ErrorKind::kShape, {"(8)"}));
  CHECK(caught([&] {
          moe::image_balance_loss(tape.input(view(none, {0, 4})), ImageBalance::kSwitch);
        }).is(ErrorKind::kShape, {"(0,4)"}));
  CHECK(caught([&] {
          moe::expert_spread_loss(tape.input(view(v, {4, 2})), view(offset, {3}));
        }).is(ErrorKind::kShape, {"3", "4 rows"}));
}
