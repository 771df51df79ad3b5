#include "nn/loss/mean_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/softmax.h"
#include "tests/support/gradcheck.h"
#include "tests/support/tensors.h"

using namespace engine::test;
using engine::Shape;

namespace {

OpRun<double> entropy(const std::vector<double>& gates, int64_t experts) {
  return run_op<double>([](auto x) { return nn::mean_entropy(x[0]); },
                        {Shape{static_cast<int64_t>(gates.size()) / experts, experts}}, {gates},
                        {1});
}

}  // namespace

TEST_CASE("mean entropy: log E where gates are even, 0 where they are sure, the mean of both") {
  CHECK(entropy(std::vector<double>(8, 0.25), 4).y[0] ==
        doctest::Approx(std::log(4)).epsilon(1e-6));
  CHECK(std::abs(entropy({1, 0, 0, 0, 0, 1}, 3).y[0]) <= 1e-6);
  CHECK(entropy({.5, .5, 1, 0}, 2).y[0] == doctest::Approx(std::log(2) / 2).epsilon(1e-6));
  const double r = 0.3, q = 0.7;
  CHECK(entropy({r, q}, 2).y[0] ==
        doctest::Approx(-r * std::log(r + 1e-7) - q * std::log(q + 1e-7)).epsilon(1e-14));
}

TEST_CASE("mean entropy: gradient by differences, finite at 0, and f32") {
  const auto report =
      gradcheck([](auto x) { return nn::mean_entropy(engine::softmax(x[0])); }, {Shape{6, 4}});
  CHECK_MESSAGE(report.ok(), report);
  const OpRun<double> sure = entropy({1, 0, 0, 1}, 2);
  for (const double g : sure.grads[0]) CHECK(std::isfinite(g));
  CHECK(sure.grads[0][1] == doctest::Approx(-std::log(1e-7) / 2));
  const std::vector<float> gates = {.2f, .8f, .9f, .1f};
  const OpRun<float> single =
      run_op<float>([](auto x) { return nn::mean_entropy(x[0]); }, {Shape{2, 2}}, {gates}, {3});
  const OpRun<double> twice = entropy({gates.begin(), gates.end()}, 2);
  CHECK(single.y[0] == doctest::Approx(twice.y[0]).epsilon(1e-6));
  for (size_t i = 0; i < 4; ++i) {
    CHECK(single.grads[0][i] == doctest::Approx(3 * twice.grads[0][i]).epsilon(1e-6));
  }
}
