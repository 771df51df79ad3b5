#include "engine/ops/pool.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

test::Function max_of(const PoolOptions& o) {
  return [o](std::span<const Tensor> x) { return max_pool2d(x[0], o); };
}
test::Function average_of(const PoolOptions& o) {
  return [o](std::span<const Tensor> x) { return average_pool2d(x[0], o); };
}

struct Pools {
  std::vector<double> max, average;
};
template <class T>
Pools naive_pools(const Shape& s, const std::vector<T>& in, const PoolOptions& o) {
  Pools out;
  for (int64_t b = 0; b < s[0]; ++b) {
    for (int64_t i = -o.padding; i + o.kernel <= s[1] + o.padding; i += o.stride) {
      for (int64_t j = -o.padding; j + o.kernel <= s[2] + o.padding; j += o.stride) {
        for (int64_t c = 0; c < s[3]; ++c) {
          double largest = -std::numeric_limits<double>::infinity(), sum = 0;
          for (int64_t y = i; y < i + o.kernel; ++y) {
            for (int64_t x = j; x < j + o.kernel; ++x) {
              if (y < 0 || y >= s[1] || x < 0 || x >= s[2]) continue;
              const double v = in[static_cast<size_t>(((b * s[1] + y) * s[2] + x) * s[3] + c)];
              largest = std::max(largest, v);
              sum += v;
            }
          }
          out.max.push_back(largest);
          out.average.push_back(sum / double(o.kernel * o.kernel));
        }
      }
    }
  }
  return out;
}

struct Case {
  Shape x;
  PoolOptions options;
};
const std::vector<Case> kCases = {
    {{1, 1, 1, 1}, {1, 1, 0}},    {{2, 4, 6, 3}, {2, 2, 0}}, {{2, 5, 7, 17}, {3, 2, 1}},
    {{1, 7, 5, 16}, {3, 1, 1}},   {{3, 6, 6, 2}, {2, 3, 0}}, {{2, 9, 8, 5}, {5, 4, 2}},
    {{1, 15, 16, 2}, {15, 1, 7}}, {{0, 4, 4, 2}, {2, 2, 0}},
};

}  // namespace

TEST_CASE("pool: match naive references") {
  for (const Case& c : kCases) {
    CAPTURE(c.x);
    const auto f32 = values<float>(c.x.numel(), 1);
    const auto f64 = values<double>(c.x.numel(), 1);
    const Pools want32 = naive_pools(c.x, f32, c.options), want = naive_pools(c.x, f64, c.options);
    CHECK(distance(run_op<float>(max_of(c.options), {c.x}, {f32}).y, want32.max) == 0);
    CHECK(distance(run_op<double>(max_of(c.options), {c.x}, {f64}).y, want.max) == 0);
    CHECK(distance(run_op<float>(average_of(c.options), {c.x}, {f32}).y, want32.average) < 1e-6);
    CHECK(distance(run_op<double>(average_of(c.options), {c.x}, {f64}).y, want.average) < 1e-14);
  }
}

TEST_CASE("pool: gradients") {
  for (const Case& c : kCases) {
    if (c.x.numel() == 0) continue;
    CAPTURE(c.x);
    const auto of_max = gradcheck(max_of(c.options), {c.x});
    CHECK_MESSAGE(of_max.ok(), of_max);
    const auto of_average = gradcheck(average_of(c.options), {c.x});
    CHECK_MESSAGE(of_average.ok(), of_average);
  }
}

TEST_CASE("pool: gradient through a chain, where the input is used twice") {
  const auto f = [](std::span<const Tensor> x) {
    const Tensor a = scale(x[0], 3);
    return add(max_pool2d(a, {3, 1, 1}), add(average_pool2d(a, {3, 1, 1}), a));
  };
  const auto report = gradcheck(f, {Shape{2, 4, 3, 2}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("pool: the first of equal pixels gets the gradient, NaN and -inf are pixels too") {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto pool = [](const std::vector<float>& x) {
    return run_op<float>(max_of({2, 2, 0}), {Shape{1, 2, 2, 1}}, {x}, std::vector<float>{5});
  };
  CHECK(pool({1, 3, 3, 3}).grads[0] == std::vector<float>{0, 5, 0, 0});
  CHECK(pool({-inf, -inf, -inf, -inf}).grads[0] == std::vector<float>{5, 0, 0, 0});
  CHECK(pool({-inf, -inf, -inf, -inf}).y[0] == -inf);
  CHECK(std::isnan(pool({1, nan, 7, 2}).y[0]));
  CHECK(pool({1, nan, inf, nan}).grads[0] == std::vector<float>{0, 5, 0, 0});
  // What lies outside is not a zero.
  const std::vector<float> negative(4, -2);
  CHECK(run_op<float>(max_of({3, 2, 1}), {Shape{1, 2, 2, 1}}, {negative}).y[0] == -2);
}

TEST_CASE("pool: same bits for any number of threads and in any batch") {
  CHECK(test::op_same_bits_for_threads<float>(max_of({3, 2, 1}), {Shape{9, 11, 10, 17}}));
  CHECK(test::op_same_bits_for_threads<float>(average_of({3, 2, 1}), {Shape{9, 11, 10, 17}}));
  CHECK(test::batch_shows_nowhere<float>(max_of({3, 2, 1}), {5, 4, 3}, {}));
  CHECK(test::batch_shows_nowhere<float>(average_of({3, 1, 1}), {5, 4, 3}, {}));
}

TEST_CASE("pool: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(2 * 4 * 4 * 3);
  const Tensor plain = view(v, {2, 4, 4, 3}), x = tape.input(plain);
  CHECK(caught([&] { max_pool2d(plain, {}); }).is(ErrorKind::kValue, {"max_pool2d", "tape"}));
  CHECK(caught([&] {
          average_pool2d(tape.input(view(v, {2, 16, 3})), {});
        }).is(ErrorKind::kShape, {"average_pool2d", "(2,16,3)"}));
  CHECK(caught([&] { max_pool2d(x, {0, 1, 0}); }).is(ErrorKind::kValue, {"1 to 15", "0, 1, 0"}));
  CHECK(caught([&] { max_pool2d(x, {16, 1, 8}); }).is(ErrorKind::kValue));
  CHECK(caught([&] { max_pool2d(x, {2, 0, 0}); }).is(ErrorKind::kValue));
  CHECK(caught([&] { max_pool2d(x, {3, 1, 2}); }).is(ErrorKind::kValue, {"half"}));
  CHECK(caught([&] { average_pool2d(x, {3, 1, -1}); }).is(ErrorKind::kValue));
  CHECK(caught([&] { max_pool2d(x, {5, 1, 0}); }).is(ErrorKind::kShape, {"window of 5"}));
}
