#include "nn/loss/gshard_loss.h"

#include <doctest/doctest.h>

#include <vector>

#include "engine/ops/softmax.h"
#include "engine/ops/top_k.h"
#include "tests/reference/naive_layers.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;

namespace {

OpRun<double> gshard(const std::vector<double>& gates, int64_t experts, int64_t group) {
  const Shape shape{static_cast<int64_t>(gates.size()) / experts, experts};
  return run_op<double>(
      [&](auto x) { return nn::gshard_loss(x[0], engine::top_k(x[0], 2), group); }, {shape},
      {gates}, {1});
}

}  // namespace

TEST_CASE("gshard loss: the worked example") {
  naive::Vec logits = {1, .5, 0, .2, .1, .9, 0, 1.5, .3, .7, .6, .5};
  naive::add(logits, {.1, -.2, .3, 0, .2, -.1, -.3, .1, .2, .05, -.05, .15});
  const OpRun<double> got = gshard(naive::softmax(logits, 3), 3, 4);
  CHECK(std::abs(got.y[0] - 0.98425787) <= 5e-9);
  // The gradient is the share of first choices, the same for every token: 3/4 * (2, 1, 1) / 4.
  for (size_t i = 0; i < 12; ++i) {
    CHECK(got.grads[0][i] == doctest::Approx(i % 3 == 0 ? 0.375 : 0.1875));
  }
}

TEST_CASE("gshard loss: 1 where all is even, E where one expert has everything") {
  std::vector<double> even(16, 0), one(16, 0);
  for (size_t t = 0; t < 4; ++t) even[t * 5] = one[t * 4 + 2] = 1;
  CHECK(gshard(even, 4, 4).y[0] == doctest::Approx(1));
  CHECK(gshard(one, 4, 4).y[0] == doctest::Approx(4));
}

TEST_CASE("gshard loss: the mean over groups, each as the naive loss has it") {
  const int64_t experts = 5, tokens = 6, groups = 3;
  const naive::Vec gates = naive::softmax(values<double>(groups * tokens * experts, 1, 2), experts);
  double want = 0;
  for (int64_t g = 0; g < groups; ++g) {
    want += naive::gshard_loss(naive::slice(gates, g * tokens * experts, tokens * experts), tokens,
                               experts) /
            groups;
  }
  CHECK(error_of(gshard(gates, experts, tokens).y[0], want) <= 1e-12);
}

TEST_CASE("gshard loss: gradient by differences, f32, and what it refuses") {
  for (const int64_t group : {3, 6}) {
    const auto report = gradcheck(
        [&](auto x) {
          const Tensor gates = engine::softmax(x[0]);
          return nn::gshard_loss(gates, engine::top_k(gates, 1), group);
        },
        {Shape{6, 4}});
    CHECK_MESSAGE(report.ok(), report);
  }
  const auto gates = values<float>(24, 1);
  const OpRun<float> single =
      run_op<float>([](auto x) { return nn::gshard_loss(x[0], engine::top_k(x[0], 2), 3); },
                    {Shape{6, 4}}, {gates}, {2});
  const OpRun<double> twice = gshard({gates.begin(), gates.end()}, 4, 3);
  CHECK(single.y[0] == doctest::Approx(twice.y[0]).epsilon(1e-6));
  for (size_t i = 0; i < 24; ++i) {
    CHECK(single.grads[0][i] == doctest::Approx(2 * twice.grads[0][i]).epsilon(1e-6));
  }
  CHECK(
      caught([&] { gshard(std::vector<double>(24, 1), 4, 4); }).is(ErrorKind::kValue, {"4", "6"}));
}
