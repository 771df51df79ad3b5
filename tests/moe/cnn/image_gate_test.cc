#include "moe/cnn/image_gate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "moe/dispatch.h"
#include "tests/support/gradcheck.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::StepArena;
using engine::Tape;
using engine::Tensor;
using moe::GateWeight;

namespace {

std::vector<int32_t> chosen_of(const std::vector<double>& q, int64_t experts, int64_t k,
                               int64_t capacity) {
  StepArena arena;
  Tape tape(arena);
  const Shape shape{static_cast<int64_t>(q.size()) / experts, experts};
  return copy_of<int32_t>(moe::choose_experts(tape, view(q, shape), k, capacity));
}

OpRun<double> weights(const std::vector<double>& s, int64_t experts,
                      const std::vector<int32_t>& chosen, int64_t k, GateWeight form,
                      const std::vector<double>& dw = {}) {
  const int64_t images = static_cast<int64_t>(s.size()) / experts;
  return run_op<double>(
      [&](auto x) {
        return moe::gate_weights(x[0], view(chosen, {images, k}), form);
      },
      {Shape{images, experts}}, {s}, dw);
}

}  // namespace

TEST_CASE("image gate: the worked examples") {
  const std::vector<double> s = {.7, .1, .1, .1, .4, .3, .2, .1};
  const std::vector<int32_t> two = chosen_of(s, 4, 2, 0);
  CHECK(two == std::vector<int32_t>{0, 1, 0, 1});
  const auto w = weights(s, 4, two, 2, GateWeight::kNormalised).y;
  CHECK(std::abs(w[0] - .874989) <= 5e-7);
  CHECK(std::abs(w[1] - .124998) <= 5e-7);
  CHECK(std::abs(w[2] - .57142) <= 5e-6);
  CHECK(std::abs(w[3] - .428565) <= 5e-7);
  CHECK(weights(s, 4, two, 2, GateWeight::kPlain).y == std::vector<double>{.7, .1, .4, .3});
  // 640 images, 4 experts, factor 1.5.
  CHECK(moe::capacity_of(640, 1, 4, 1.5, 1) == 240);
  CHECK(moe::capacity_of(640, 2, 4, 1.5, 1) == 480);
}

TEST_CASE("image gate: straight-through is one forward and the score backward") {
  const std::vector<double> s = {.7, .2, .1, .1, .3, .6};
  const std::vector<int32_t> one = {0, 2};
  const auto run = weights(s, 3, one, 1, GateWeight::kStraightThrough, {2, -3});
  CHECK(run.y == std::vector<double>{1, 1});
  CHECK(run.grads[0] == std::vector<double>{2, 0, 0, 0, 0, -3});
  // Its surrogate is the plain weight, whose gradient it has.
  CHECK(weights(s, 3, one, 1, GateWeight::kPlain, {2, -3}).grads[0] == run.grads[0]);
}

TEST_CASE("image gate: gradients of the weights") {
  const std::vector<int32_t> chosen = {2, 0, 1, 3, 0, 1};
  for (const GateWeight form : {GateWeight::kNormalised, GateWeight::kPlain}) {
    const auto f = [&](std::span<const Tensor> x) {
      return moe::gate_weights(engine::softmax(x[0]), view(chosen, {3, 2}), form);
    };
    const auto report = gradcheck(f, {Shape{3, 4}});
    CHECK_MESSAGE(report.ok(), report);
    const auto twice = [&](std::span<const Tensor> x) { return engine::multiply(f(x), f(x)); };
    CHECK(gradcheck(twice, {Shape{3, 4}}).ok());
  }
}

TEST_CASE("image gate: NaN becomes 0, without a gradient") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<int32_t> chosen = {0, 1, 0, 1};
  for (const GateWeight form : {GateWeight::kNormalised, GateWeight::kPlain}) {
    const auto run = weights({nan, .5, .5, .4, .6, 0}, 3, chosen, 2, form, {1, 1, 1, 1});
    CHECK(run.y[0] == 0);
    CHECK(run.grads[0][0] == 0);
    CHECK(run.y[2] > 0);
    for (const double g : run.grads[0]) CHECK(std::isfinite(g));
    CHECK(run.grads[0][3] != 0);
  }
  const auto run = weights({nan, .5}, 2, {0}, 1, GateWeight::kStraightThrough, {1});
  CHECK(run.y[0] == 0);
  CHECK(run.grads[0][0] == 0);
}

TEST_CASE("image gate: capacity and re-assignment, worked by hand") {
  // All four prefer expert 0, which has room for two: images 1 and 3 want it most. The others take
  // their second choice.
  const std::vector<double> q = {.5, .4, .1, .8, .1, .1, .6, .1, .3, .9, .05, .05};
  CHECK(chosen_of(q, 3, 1, 2) == std::vector<int32_t>{1, 0, 2, 0});
  CHECK(chosen_of(q, 3, 1, 4) == std::vector<int32_t>{0, 0, 0, 0});
  CHECK(chosen_of(q, 3, 1, 0) == std::vector<int32_t>{0, 0, 0, 0});
  // Room for one: image 3 gets 0, in the next round image 0 gets 1, then 2 is wanted by images 1
  // and 2, whose .3 is more; nobody has room for image 1 until the last round.
  CHECK(chosen_of(q, 3, 1, 1) == std::vector<int32_t>{1, 0, 2, 0});
  // Two each, equal preferences: the lower image first.
  const std::vector<double> equal(8, .25);
  CHECK(chosen_of(equal, 4, 2, 1) == std::vector<int32_t>{0, 1, 2, 3});
}

TEST_CASE("image gate: everybody gets k different experts, and capacity holds where it can") {
  for (const int64_t k : {1, 2, 3}) {
    for (const double factor : {1.0, 1.25, 2.0}) {
      const int64_t images = 40, experts = 5,
                    capacity = moe::capacity_of(images, k, experts, factor, 1);
      const auto q = values<double>(images * experts, 31);
      const auto chosen = chosen_of(q, experts, k, capacity);
      std::vector<int64_t> load(size_t(experts), 0);
      for (int64_t t = 0; t < images; ++t) {
        std::vector<int32_t> mine(chosen.begin() + t * k, chosen.begin() + (t + 1) * k);
        for (const int32_t e : mine) ++load[size_t(e)];
        CHECK(std::ranges::is_sorted(mine, [&](int32_t a, int32_t b) {
          return q[size_t(t * experts + a)] > q[size_t(t * experts + b)];
        }));
        std::ranges::sort(mine);
        CHECK(std::ranges::adjacent_find(mine) == mine.end());
      }
      if (k == 1 || factor > 1) {
        CHECK(*std::ranges::max_element(load) <= capacity);
      }
    }
  }
}

TEST_CASE("image gate: selection in training") {
  const auto scores = [](int64_t images) {
    auto s = values<double>(images * 4, 3);
    for (double& x : s) x = std::exp(x);
    for (int64_t t = 0; t < images; ++t) {
      double sum = 0;
      for (int64_t e = 0; e < 4; ++e) sum += s[size_t(4 * t + e)];
      for (int64_t e = 0; e < 4; ++e) s[size_t(4 * t + e)] /= sum;
    }
    return s;
  };
  const auto selection = [&](const std::vector<double>& s, int64_t step, int64_t first_id) {
    StepArena arena;
    Tape tape(arena);
    std::vector<int64_t> ids(s.size() / 4);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = first_id + int64_t(i);
    nn::Forward f{.tape = tape, .seed = 7, .step = step, .sample_ids = ids};
    return copy_of<double>(moe::noisy_selection(f, view(s, {int64_t(ids.size()), 4}), 2));
  };
  const auto s = scores(2000);
  const auto q = selection(s, 1, 0);
  CHECK(q == selection(s, 1, 0));
  CHECK(q != selection(s, 2, 0));
  CHECK(q != selection(s, 1, 1));
  // ln(q_e / q_0) - (s_e - s_0) / std is a difference of two noises of deviation 0.1.
  double mean = 0, std = 0, spread = 0;
  for (const double x : s) mean += x / double(s.size());
  for (const double x : s) std += (x - mean) * (x - mean) / double(s.size() - 1);
  std = std::sqrt(std);
  for (size_t t = 0; t < 2000; ++t) {
    const double d = std::log(q[4 * t + 1] / q[4 * t]) - (s[4 * t + 1] - s[4 * t]) / std;
    spread += d * d / 2000;
    CHECK(q[4 * t] + q[4 * t + 1] + q[4 * t + 2] + q[4 * t + 3] == doctest::Approx(1));
  }
  CHECK(std::sqrt(spread) == doctest::Approx(0.1 * std::sqrt(2.0)).epsilon(0.06));
  const std::vector<double> flat(8, .25);  // no deviation to divide by
  for (const double x : selection(flat, 1, 0)) CHECK(std::isfinite(x));
}

TEST_CASE("image gate: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<double> v(8);
  std::vector<int32_t> two(4);
  const Tensor s = tape.input(view(v, {2, 4}));
  CHECK(caught([&] { moe::choose_experts(tape, s, 5, 0); }).is(ErrorKind::kValue, {"5 of 4"}));
  CHECK(caught([&] { moe::choose_experts(tape, s, 0, 1); }).is(ErrorKind::kValue));
  CHECK(caught([&] {
          moe::choose_experts(tape, tape.input(view(v, {8})), 1, 0);
        }).is(ErrorKind::kShape, {"(8)"}));
  CHECK(caught([&] {
          moe::gate_weights(s, view(two, {2, 2}), GateWeight::kStraightThrough);
        }).is(ErrorKind::kValue, {"one expert"}));
  nn::Forward f{.tape = tape};
  CHECK(caught([&] { moe::noisy_selection(f, s, 0); }).is(ErrorKind::kValue, {"0 sample ids"}));
}
