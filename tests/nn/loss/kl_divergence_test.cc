#include "nn/loss/kl_divergence.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/tensors.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;

namespace {

// The divergence over 5 and its gradients, of rows of `classes`.
template <class T>
OpRun<T> divergence(const std::vector<T>& x, const std::vector<T>& y, int64_t classes) {
  const Shape shape{static_cast<int64_t>(x.size()) / classes, classes};
  return run_op<T>([](auto in) { return nn::kl_divergence(in[0], in[1], 5); }, {shape, shape},
                   {x, y}, {1});
}

// From the definition.
double naive(const std::vector<double>& x, const std::vector<double>& y, size_t classes) {
  double total = 0;
  for (size_t r = 0; r < x.size(); r += classes) {
    double zx = 0, zy = 0;
    for (size_t c = r; c < r + classes; ++c) {
      zx += std::exp(x[c]);
      zy += std::exp(y[c]);
    }
    for (size_t c = r; c < r + classes; ++c) {
      const double p = std::exp(x[c]) / zx, q = std::exp(y[c]) / zy;
      total += p * std::log(p / q);
    }
  }
  return total / 5;
}

const std::vector<double> kFirst = {1, -.5, 2, .25, 0, 3, -1, .5, -2, -2.5, 1.5, .75};
const std::vector<double> kSecond = {.5, .5, 1, -.75, 1, 2, 0, -.5, -1, -3.5, .25, 2};

}  // namespace

TEST_CASE("kl divergence: the numbers of PyTorch") {
  // torch.nn.functional.kl_div(log_softmax(second), softmax(first), reduction="sum") / 5, PyTorch
  // 2.15 in f64, and the gradients of first and second.
  const OpRun<double> run = divergence(kFirst, kSecond, 4);
  CHECK(run.y[0] == doctest::Approx(0.21698688335058808).epsilon(1e-14));
  const double first[] = {-0.012941845006192807, -0.01805364405725683,  0.026406693755984003,
                          0.0045887953074655865, -0.016289227150122994, 0.020591449802520905,
                          -0.005992471781101934, 0.001690249128704006,  -0.005662093271627941,
                          0.001382884292574126,  0.10837863681027439,   -0.10409942783122059};
  const double second[] = {0.005510351918350175,   0.04071238267607018,   -0.039379588252353985,
                           -0.006843146342066375,  0.037754134854045635,  -0.04772555293876028,
                           0.013888970032017582,   -0.003917551947302946, 0.004139927446837192,
                           -0.0017427698132933959, -0.10319278578197816,  0.10079562814843436};
  for (size_t i = 0; i < 12; ++i) {
    CHECK(std::abs(run.grads[0][i] - first[i]) <= 1e-15);
    CHECK(std::abs(run.grads[1][i] - second[i]) <= 1e-15);
  }
}

TEST_CASE("kl divergence: the definition at several sizes, not negative, 0 for equal rows") {
  for (const int64_t classes : {1, 2, 7, 16, 17, 100}) {
    CAPTURE(classes);
    const auto x = values<double>(9 * classes, 3, 4), y = values<double>(9 * classes, 4, 4);
    const OpRun<double> run = divergence(x, y, classes);
    CHECK(run.y[0] == doctest::Approx(naive(x, y, static_cast<size_t>(classes))).epsilon(1e-12));
    CHECK(run.y[0] >= 0);
    const OpRun<double> same = divergence(x, x, classes);
    CHECK(same.y[0] == 0);
    for (const double g : same.grads[1]) CHECK(g == 0);
  }
}

TEST_CASE("kl divergence: gradients of both by differences, and of either alone") {
  const auto report =
      gradcheck([](auto in) { return nn::kl_divergence(in[0], in[1], 3); }, {{5, 7}, {5, 7}});
  CHECK_MESSAGE(report.ok(), report);
  const auto twice = gradcheck(
      [](auto in) {
        return nn::kl_divergence(engine::scale(in[0], 2), engine::multiply(in[0], in[1]), 3);
      },
      {{5, 7}, {5, 7}});
  CHECK_MESSAGE(twice.ok(), twice);
  const OpRun<double> both = divergence(kFirst, kSecond, 4);
  const Shape shape{3, 4};
  const OpRun<double> other =
      run_op<double>([&](auto in) { return nn::kl_divergence(view(kFirst, shape), in[0], 5); },
                     {shape}, {kSecond}, {1});
  const OpRun<double> logits =
      run_op<double>([&](auto in) { return nn::kl_divergence(in[0], view(kSecond, shape), 5); },
                     {shape}, {kFirst}, {1});
  CHECK(other.y == both.y);
  CHECK(other.grads[0] == both.grads[1]);
  CHECK(logits.grads[0] == both.grads[0]);
}

TEST_CASE("kl divergence: large logits, and f32") {
  const std::vector<double> sure = {1e5, -1e5, 0, 1e5}, unsure = {-1e5, 1e5, 0, 0};
  const OpRun<double> run = divergence(sure, unsure, 4);
  CHECK(run.y[0] == doctest::Approx((1e5 + 2e5) / 2 / 5).epsilon(1e-4));
  for (const auto& grads : run.grads) {
    for (const double g : grads) CHECK(std::isfinite(g));
  }
  CHECK(run.grads[1][0] == doctest::Approx(-0.1));
  CHECK(run.grads[1][1] == doctest::Approx(0.2));
  const std::vector<float> x(kFirst.begin(), kFirst.end()), y(kSecond.begin(), kSecond.end());
  const OpRun<float> single = divergence(x, y, 4);
  const OpRun<double> exact = divergence(kFirst, kSecond, 4);
  CHECK(single.y[0] == doctest::Approx(exact.y[0]).epsilon(1e-6));
  for (size_t k = 0; k < 2; ++k) {
    for (size_t i = 0; i < 12; ++i) {
      CHECK(std::abs(double{single.grads[k][i]} - exact.grads[k][i]) <= 1e-8);
    }
  }
}

TEST_CASE("kl divergence: same bits for threads") {
  CHECK(op_same_bits_for_threads<float>([](auto in) { return nn::kl_divergence(in[0], in[1], 64); },
                                        {{64, 10}, {64, 10}}));
}

TEST_CASE("kl divergence: errors") {
  const std::vector<double> x(12), y(12);
  const std::vector<float> narrow(12);
  engine::StepArena arena;
  engine::Tape tape(arena);
  const engine::Tensor a = tape.input(view(x, {3, 4}));
  CHECK(caught([&] {
          nn::kl_divergence(a, view(y, {4, 3}), 1);
        }).is(ErrorKind::kShape, {"kl_divergence", "(3,4)", "(4,3)"}));
  CHECK(caught([&] { nn::kl_divergence(a, view(narrow, {3, 4}), 1); }).is(ErrorKind::kShape));
  CHECK(caught([&] {
          nn::kl_divergence(a, view(y, {3, 4}), 0);
        }).is(ErrorKind::kValue, {"denominator", "0"}));
  CHECK(caught([&] {
          nn::kl_divergence(view(x, {3, 4}), view(y, {3, 4}), 1);
        }).is(ErrorKind::kValue, {"tape"}));
}
