#include "moe/balance_loss.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/softmax.h"
#include "tests/reference/naive_layers.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;

namespace {

const std::vector<double> kLogits = {1, .5, 0, .2, .1, .9, 0, 1.5, .3, .7, .6, .5};
const std::vector<double> kScaledNoise = {.1, -.2, .3, 0, .2, -.1, -.3, .1, .2, .05, -.05, .15};

std::vector<double> sum_of(std::vector<double> a, const std::vector<double>& b) {
  naive::add(a, b);
  return a;
}

OpRun<double> importance(const std::vector<double>& clean, int64_t experts, int64_t group) {
  const Shape shape{static_cast<int64_t>(clean.size()) / experts, experts};
  return run_op<double>([&](auto x) { return moe::importance_loss(x[0], group); }, {shape}, {clean},
                        {1});
}

OpRun<double> load(const std::vector<double>& logits, const std::vector<double>& noisy,
                   int64_t experts, int64_t k, double sigma, int64_t group) {
  const Shape shape{static_cast<int64_t>(logits.size()) / experts, experts};
  return run_op<double>([&](auto x) { return moe::load_loss(x[0], x[1], k, sigma, group); },
                        {shape, shape}, {logits, noisy}, {1});
}

}  // namespace

TEST_CASE("balance loss: the worked example") {
  const OpRun<double> i = importance(naive::softmax(kLogits, 3), 3, 4);
  CHECK(std::abs(i.y[0] - 0.01103189) <= 5e-9);
  const OpRun<double> l = load(kLogits, sum_of(kLogits, kScaledNoise), 3, 2, 1.0 / 3, 4);
  CHECK(std::abs(l.y[0] - 0.01928267) <= 5e-9);
}

TEST_CASE("balance loss: CV^2 and its gradient") {
  const std::vector<double> v = {1.275219, 1.526358, 1.198423};
  CHECK(std::abs(moe::cv_squared(v) - 0.01103189) <= 5e-8);
  std::vector<double> grad(3);
  moe::cv_squared_grad(v, grad);
  CHECK(std::abs(grad[0] + 0.027309) <= 5e-7);
  CHECK(std::abs(grad[1] - 0.066868) <= 5e-7);
  CHECK(std::abs(grad[2] + 0.056107) <= 5e-7);
  CHECK(moe::cv_squared(std::vector<double>{1, 3}) == 0.25);  // the variance has divisor E
  CHECK(moe::cv_squared(std::vector<double>{2, 6}) == 0.25);  // and the scale does not matter
}

TEST_CASE("balance loss: equal or no shares give 0 and a zero gradient") {
  for (const double share : {0.3, 0.0}) {
    const std::vector<double> v(7, share);
    std::vector<double> grad(7, 1);
    CHECK(moe::cv_squared(v) <= 1e-30);
    moe::cv_squared_grad(v, grad);
    for (const double g : grad) CHECK(std::abs(g) <= 1e-15);
  }
  // All-zero logits: equal gates for all.
  const OpRun<double> flat = importance(std::vector<double>(40, 0.25), 4, 5);
  CHECK(flat.y[0] == 0);
  CHECK(flat.grads[0] == std::vector<double>(40, 0));
  // Perfect balance without equal gates: every token is sure of another expert.
  std::vector<double> sure(16, 0);
  for (size_t t = 0; t < 4; ++t) sure[t * 5] = 1;
  const OpRun<double> balanced = importance(sure, 4, 4);
  CHECK(balanced.y[0] == 0);
  CHECK(balanced.grads[0] == std::vector<double>(16, 0));
  const OpRun<double> nothing = importance(std::vector<double>(16, 0), 4, 4);
  CHECK(nothing.y[0] == 0);
  CHECK(nothing.grads[0] == std::vector<double>(16, 0));
}

TEST_CASE("load loss: a flat or perfectly sure router has a finite gradient") {
  // Logits all equal, the noise turns with the token: every expert is as likely.
  std::vector<double> noisy;
  for (size_t i = 0; i < 16; ++i) noisy.push_back(0.1 * static_cast<double>((i + i / 4) % 4));
  const OpRun<double> flat = load(std::vector<double>(16, 0), noisy, 4, 2, 0.25, 4);
  CHECK(flat.y[0] <= 1e-30);
  for (const auto& grad : flat.grads) {
    for (const double g : grad) CHECK(std::abs(g) <= 1e-14);
  }
  // Far apart: p is 0 or 1 to the last digit, nothing is left to learn.
  std::vector<double> far(16, 0);
  for (size_t t = 0; t < 4; ++t) far[t * 4] = 1000;
  const OpRun<double> sure = load(far, far, 4, 1, 0.25, 4);
  // The threshold is the winner's own logit: p = 1/2 for it and 0 for the others.
  CHECK(sure.y[0] == doctest::Approx(3).epsilon(1e-12));
  for (const auto& grad : sure.grads) {
    for (const double g : grad) CHECK(std::isfinite(g));
  }
}

TEST_CASE("balance loss: gradients equal the naive ones, and the mean is over groups") {
  const int64_t experts = 5, tokens = 6, groups = 3;
  const auto logits = values<double>(groups * tokens * experts, 1, 1.5);
  const auto noisy = sum_of(logits, values<double>(groups * tokens * experts, 2, 0.4));
  const naive::Vec clean = naive::softmax(logits, experts);
  for (const int64_t k : {1, 2, 5}) {
    const OpRun<double> i = importance(clean, experts, tokens);
    const OpRun<double> l = load(logits, noisy, experts, k, 0.2, tokens);
    double want_i = 0, want_l = 0;
    naive::Vec di, dl;
    for (int64_t g = 0; g < groups; ++g) {
      const auto part = [&](const naive::Vec& v) {
        return naive::slice(v, g * tokens * experts, tokens * experts);
      };
      const naive::Vec c = part(clean), a = part(logits), b = part(noisy);
      want_i += naive::importance_loss(c, tokens, experts) / groups;
      want_l += naive::load_loss(a, b, tokens, experts, k, 0.2) / groups;
      for (const double v : naive::importance_loss_grad(c, tokens, experts)) {
        di.push_back(v / groups);
      }
      for (const double v : naive::load_loss_grad(a, b, tokens, experts, k, 0.2)) {
        dl.push_back(v / groups);
      }
    }
    CHECK(error_of(i.y[0], want_i) <= 1e-12);
    CHECK(error_of(i.grads[0], di) <= 1e-12);
    CHECK(error_of(l.y[0], want_l) <= 1e-12);
    // The naive gradient is that of the clean logits, with the noise added to them.
    CHECK(error_of(sum_of(l.grads[0], l.grads[1]), dl) <= 1e-12);
  }
}

TEST_CASE("balance loss: gradients by differences") {
  for (const int64_t group : {3, 6}) {
    const auto of_gates = gradcheck(
        [&](auto x) { return moe::importance_loss(engine::softmax(x[0]), group); }, {Shape{6, 4}});
    CHECK_MESSAGE(of_gates.ok(), of_gates);
    for (const int64_t k : {1, 2, 4}) {
      // Logits and noisy logits on their own: where each path ends shows.
      const auto of_load =
          gradcheck([&](auto x) { return moe::load_loss(x[0], x[1], k, 0.5, group); },
                    {Shape{6, 4}, Shape{6, 4}}, /*seed=*/3);
      CHECK_MESSAGE(of_load.ok(), of_load);
      const auto shift = values<double>(24, 9, 0.3);
      const auto together = gradcheck(
          [&](auto x) {
            Tensor noise = x[0].tape()->input(view(shift, {6, 4}));
            return moe::load_loss(x[0], engine::add(x[0], noise), k, 0.5, group);
          },
          {Shape{6, 4}}, /*seed=*/3);
      CHECK_MESSAGE(together.ok(), together);
    }
  }
}

TEST_CASE("load loss: ties go to the lower expert") {
  const std::vector<double> logits = {0.3, 0.1, 0.4}, noisy = {0.5, 0.5, 0.5};
  for (const int64_t k : {1, 2, 3}) {
    const OpRun<double> l = load(logits, noisy, 3, k, 1, 1);
    for (int64_t e = 0; e < 3; ++e) CHECK((l.grads[1][e] != 0) == (e == k - 1));
  }
}

TEST_CASE("balance loss: f32 inputs, and a gradient from above") {
  const auto logits = values<float>(24, 1, 1.5);
  const auto noisy = values<float>(24, 2, 1.5);
  const std::vector<double> logits64(logits.begin(), logits.end());
  const std::vector<double> noisy64(noisy.begin(), noisy.end());
  const auto f = [](std::span<const Tensor> x) { return moe::load_loss(x[0], x[1], 2, 0.5, 6); };
  const OpRun<float> single = run_op<float>(f, {Shape{6, 4}, Shape{6, 4}}, {logits, noisy}, {3});
  const OpRun<double> twice = load(logits64, noisy64, 4, 2, 0.5, 6);
  CHECK(single.y[0] == doctest::Approx(twice.y[0]).epsilon(1e-6));
  for (size_t i = 0; i < 24; ++i) {
    CHECK(std::abs(single.grads[0][i] - 3 * twice.grads[0][i]) <= 1e-6);
    CHECK(std::abs(single.grads[1][i] - 3 * twice.grads[1][i]) <= 1e-6);
  }
  std::vector<float> gates(logits);
  for (float& g : gates) g = 2 + g;
  const OpRun<float> i32 = run_op<float>([](auto x) { return moe::importance_loss(x[0], 3); },
                                         {Shape{6, 4}}, {gates}, {3});
  const OpRun<double> i64 = importance({gates.begin(), gates.end()}, 4, 3);
  CHECK(i32.y[0] == doctest::Approx(i64.y[0]).epsilon(1e-6));
  for (size_t i = 0; i < 24; ++i) CHECK(std::abs(i32.grads[0][i] - 3 * i64.grads[0][i]) <= 1e-6);
}

TEST_CASE("balance loss: a gradient that nobody wants is not written") {
  engine::StepArena arena;
  engine::Tape tape(arena);
  const auto logits = values<double>(24, 1), noisy = values<double>(24, 2);
  std::vector<double> grad(24, 0);
  const std::vector<double> one = {1};
  for (const bool first : {true, false}) {
    tape.clear();
    const Tensor leaf = tape.leaf(view(first ? logits : noisy, {6, 4}), view(grad, {6, 4}));
    const Tensor input = tape.input(view(first ? noisy : logits, {6, 4}));
    const Tensor loss = moe::load_loss(first ? leaf : input, first ? input : leaf, 2, 0.5, 6);
    std::fill(grad.begin(), grad.end(), 0.0);
    tape.backward(loss, view(one, {1}));
    CHECK(grad == load(logits, noisy, 4, 2, 0.5, 6).grads[first ? 0 : 1]);
  }
}

TEST_CASE("balance loss: refuses what it cannot do") {
  const std::vector<double> x(24, 0.5);
  // Without noise there is no load loss.
  CHECK(caught([&] { load(x, x, 4, 2, 0, 6); }).is(ErrorKind::kValue, {"noise"}));
  CHECK(caught([&] { load(x, x, 4, 2, -1, 6); }).is(ErrorKind::kValue));
  CHECK(caught([&] { load(x, x, 4, 2, NAN, 6); }).is(ErrorKind::kValue));
  CHECK(caught([&] { load(x, x, 4, 0, 1, 6); }).is(ErrorKind::kValue, {"top_k"}));
  CHECK(caught([&] { load(x, x, 4, 5, 1, 6); }).is(ErrorKind::kValue, {"top_k"}));
  CHECK(caught([&] { load(x, x, 4, 2, 1, 4); }).is(ErrorKind::kValue, {"4 tokens"}));
  CHECK(caught([&] { importance(x, 4, 4); }).is(ErrorKind::kValue, {"4 tokens"}));
  CHECK(caught([&] { importance(x, 4, 0); }).is(ErrorKind::kValue));
  CHECK(caught([&] { importance(x, 4, 12); }).is(ErrorKind::kValue));
  CHECK(caught([&] { moe::importance_loss(view(x, {6, 4}), 6); }).is(ErrorKind::kValue, {"tape"}));
  engine::StepArena arena;
  engine::Tape tape(arena);
  CHECK(caught([&] { moe::importance_loss(tape.input(view(x, {24})), 6); }).is(ErrorKind::kShape));
  CHECK(caught([&] {
          const Tensor a = tape.input(view(x, {6, 4})), b = tape.input(view(x, {4, 6}));
          moe::load_loss(a, b, 2, 1, 6);
        }).is(ErrorKind::kShape));
}
