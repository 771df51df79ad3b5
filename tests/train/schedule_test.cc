#include "train/schedule.h"

#include <doctest/doctest.h>

#include <string>

using train::Config;
using train::learning_rate;

namespace {

// The published run's numbers.
Config::Schedule schedule(const std::string& kind) {
  Config::Schedule s;
  s.kind = kind;
  s.peak = 0.003;
  s.end = 1e-5;
  s.warmup_steps = 500;
  return s;
}

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-12); }

}  // namespace

TEST_CASE("schedule: warm-up, then a cosine to the end") {
  const Config::Schedule s = schedule("cosine");
  constexpr int64_t kSteps = 10'000;
  CHECK(learning_rate(s, 0, kSteps) == 0);
  CHECK(learning_rate(s, 1, kSteps) == near(6e-6));
  CHECK(learning_rate(s, 250, kSteps) == near(0.0015));
  CHECK(learning_rate(s, 499, kSteps) == near(0.002994));
  CHECK(learning_rate(s, 500, kSteps) == near(0.003));
  CHECK(learning_rate(s, 5250, kSteps) == near(0.001505));
  CHECK(learning_rate(s, 10'000, kSteps) == near(1e-5));
  // A third of the way: cos(pi / 3) = 1/2, so three quarters of the range are left.
  CHECK(learning_rate(s, 3000 + 500, 9500) == near(1e-5 + 0.75 * 0.00299));
  CHECK(learning_rate(s, 20'000, kSteps) == near(1e-5));
}

TEST_CASE("schedule: linear and constant") {
  const Config::Schedule line = schedule("linear"), flat = schedule("constant");
  constexpr int64_t kSteps = 10'000;
  for (const Config::Schedule& s : {line, flat}) {
    CHECK(learning_rate(s, 0, kSteps) == 0);
    CHECK(learning_rate(s, 250, kSteps) == near(0.0015));
    CHECK(learning_rate(s, 500, kSteps) == near(0.003));
  }
  CHECK(learning_rate(line, 2875, kSteps) == near(0.003 - 0.00299 / 4));
  CHECK(learning_rate(line, 10'000, kSteps) == near(1e-5));
  CHECK(learning_rate(flat, 2875, kSteps) == near(0.003));
  CHECK(learning_rate(flat, 10'000, kSteps) == near(0.003));
}

TEST_CASE("schedule: polynomial") {
  Config::Schedule s = schedule("polynomial");
  constexpr int64_t kSteps = 10'000;
  CHECK(learning_rate(s, 250, kSteps) == near(0.0015));
  CHECK(learning_rate(s, 500, kSteps) == near(0.003));
  s.power = 1;
  CHECK(learning_rate(s, 2875, kSteps) == near(0.003 - 0.00299 / 4));
  s.power = 0.5;
  CHECK(learning_rate(s, 500 + 7125, kSteps) == near(1e-5 + 0.00299 / 2));
  CHECK(learning_rate(s, 10'000, kSteps) == near(1e-5));
  CHECK(learning_rate(s, 20'000, kSteps) == near(1e-5));
  s.power = 0.9;
  s.warmup_steps = 0;
  s.peak = 0.1;
  s.end = 0;
  CHECK(learning_rate(s, 50, 200) == near(0.1 * 0.7718895067235705));  // 0.75^0.9
}

TEST_CASE("schedule: without warm-up, and warm-up alone") {
  Config::Schedule s = schedule("cosine");
  s.warmup_steps = 0;
  CHECK(learning_rate(s, 0, 100) == near(0.003));
  CHECK(learning_rate(s, 50, 100) == near(0.001505));
  s.warmup_steps = 100;
  CHECK(learning_rate(s, 99, 100) == near(0.99 * 0.003));
  CHECK(learning_rate(s, 100, 100) == near(0.003));
}
