#include "train/attacks/ball.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using engine::Purpose;
using engine::RngKey;
using train::Ball;
using train::Norm;

namespace {

const RngKey kKey(7, Purpose::kTest);

std::vector<float> uniform(uint64_t stream, size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(kKey.with(stream).uniform(i));
  return x;
}

}  // namespace

TEST_CASE("ball: projection onto an l-infinity ball, pixel by pixel") {
  const Ball ball{Norm::kLinf, 0.1};
  const std::vector<float> clean = {0.5f, 0.05f, 0.98f, 0.5f, 0.5f};
  std::vector<float> x = {0.9f, -1.0f, 2.0f, 0.45f, 0.1f};
  ball.project(clean, x);
  CHECK(x[0] == doctest::Approx(0.6));
  CHECK(x[1] == 0);
  CHECK(x[2] == 1);
  CHECK(x[3] == 0.45f);
  CHECK(x[4] == doctest::Approx(0.4));
  CHECK(ball.holds(clean, x));
  CHECK(ball.distance(clean, x) <= 0.1);  // not a rounding more
  x[3] = 0.61f;
  CHECK_FALSE(ball.holds(clean, x));
  x[3] = 0.5f;
  x[2] = 1.001f;
  CHECK_FALSE(ball.holds(clean, x));
}

TEST_CASE("ball: what is projected or drawn is inside, and the nearest there") {
  for (const Norm norm : {Norm::kLinf, Norm::kL2}) {
    for (const double eps : {0.0, 8.0 / 255, 0.3, 5.0}) {
      const Ball ball{norm, eps};
      for (uint64_t trial = 0; trial < 20; ++trial) {
        const std::vector<float> clean = uniform(trial, 48);
        std::vector<float> x = uniform(100 + trial, 48);
        for (float& v : x) v = 3 * v - 1;
        ball.project(clean, x);
        CHECK(ball.holds(clean, x));
        const std::vector<float> once = x;
        ball.project(clean, x);
        for (size_t i = 0; i < x.size(); ++i) CHECK(std::abs(x[i] - once[i]) <= 2e-7f);
        ball.draw(clean, kKey.with(trial), x);
        CHECK(ball.holds(clean, x));
        if (eps == 0) CHECK(x == clean);
      }
    }
  }
}

TEST_CASE("ball: draws fill it, with the numbers of their key") {
  const std::vector<float> clean(3000, 0.5f);
  std::vector<float> x(3000), y(3000);
  const Ball linf{Norm::kLinf, 0.2}, l2{Norm::kL2, 0.2};
  linf.draw(clean, kKey, x);
  double mean = 0, square = 0;
  for (const float v : x) {
    mean += (double{v} - 0.5) / 3000;
    square += std::pow(double{v} - 0.5, 2) / 3000;
  }
  CHECK(std::abs(mean) < 0.01);
  CHECK(std::sqrt(square) == doctest::Approx(0.2 / std::sqrt(3.0)).epsilon(0.03));
  linf.draw(clean, kKey, y);
  CHECK(x == y);
  linf.draw(clean, kKey.with(1), y);
  CHECK(x != y);
  // Nearly all of a ball of many dimensions is near its edge; of one dimension it is not.
  l2.draw(clean, kKey, x);
  CHECK(l2.distance(clean, x) > 0.19);
  std::vector<float> one(1);
  double below_half = 0;
  for (uint64_t trial = 0; trial < 1000; ++trial) {
    l2.draw(std::vector<float>{0.5f}, kKey.with(trial), one);
    below_half += std::abs(double{one[0]} - 0.5) < 0.1 ? 1e-3 : 0;
  }
  CHECK(below_half == doctest::Approx(0.5).epsilon(0.1));
}

TEST_CASE("ball: steps go up the gradient: its sign, or its direction") {
  const std::vector<float> clean = {0.5f, 0.5f, 0.5f}, gradient = {3.0f, -4.0f, 0.0f};
  std::vector<float> x = clean;
  Ball{Norm::kLinf, 1}.ascend(clean, gradient, 0.1, x);
  CHECK(x[0] == doctest::Approx(0.6));
  CHECK(x[1] == doctest::Approx(0.4));
  CHECK(x[2] == 0.5f);
  x = clean;
  Ball{Norm::kL2, 1}.ascend(clean, gradient, 0.1, x);
  CHECK(x[0] == doctest::Approx(0.56));
  CHECK(x[1] == doctest::Approx(0.42));
  const std::vector<float> none(3);
  x = clean;
  Ball{Norm::kL2, 1}.ascend(clean, none, 0.1, x);
  CHECK(x == clean);
}
