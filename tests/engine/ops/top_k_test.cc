#include "engine/ops/top_k.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::gradcheck;
using engine::test::values;
using engine::test::view;

namespace {

using Indices = std::vector<int32_t>;

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();

template <class T>
Indices top_k_of(const std::vector<T>& x, const Shape& shape, int64_t k) {
  StepArena arena;
  Tape tape(arena);
  const Tensor y = top_k(tape.input(view(x, shape)), k);
  CHECK(y.shape() == Shape{shape[0], k});
  return test::copy_of<int32_t>(y);
}

template <class T>
Indices naive_top_k(const std::vector<T>& x, int64_t cols, int64_t k) {
  Indices out;
  for (size_t at = 0; at < x.size(); at += static_cast<size_t>(cols)) {
    Indices order(static_cast<size_t>(cols));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return x[at + a] > x[at + b]; });
    out.insert(out.end(), order.begin(), order.begin() + k);
  }
  return out;
}

test::Function pick_of(const Indices& index, const Shape& shape) {
  return [&index, shape](std::span<const Tensor> x) { return pick(x[0], view(index, shape)); };
}

}  // namespace

TEST_CASE("top_k: matches a stable sort") {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{5, 2}, Shape{100, 8}, Shape{64, 33}, Shape{3000, 7}}) {
    for (const int64_t k : {int64_t{1}, int64_t{2}, shape[1]}) {
      if (k > shape[1]) continue;
      CAPTURE(shape);
      CAPTURE(k);
      auto x = values<float>(shape.numel(), 1, 4);
      const auto distinct = x;
      for (float& v : x) v = std::round(v);  // many ties
      CHECK(top_k_of(x, shape, k) == naive_top_k(x, shape[1], k));
      CHECK(top_k_of(distinct, shape, k) == naive_top_k(distinct, shape[1], k));
      const std::vector<double> xd(x.begin(), x.end());
      CHECK(top_k_of(xd, shape, k) == naive_top_k(xd, shape[1], k));
    }
  }
  CHECK(top_k_of(std::vector<float>{}, {0, 3}, 2).empty());
}

TEST_CASE("top_k: ties go to the lower index") {
  CHECK(top_k_of<float>({1, 2, 2, 1}, {1, 4}, 3) == Indices{1, 2, 0});
  CHECK(top_k_of<float>({5, 5, 5}, {1, 3}, 3) == Indices{0, 1, 2});
  CHECK(top_k_of<float>({0.0f, -0.0f}, {1, 2}, 1) == Indices{0});
  CHECK(top_k_of<float>({-kInf, -kInf, -kInf}, {1, 3}, 2) == Indices{0, 1});
}

TEST_CASE("top_k: NaN is never larger than a number") {
  CHECK(top_k_of<float>({kNan, 1, 2}, {1, 3}, 2) == Indices{2, 1});
  CHECK(top_k_of<float>({1, kNan, -kInf}, {1, 3}, 3) == Indices{0, 2, 1});
  CHECK(top_k_of<float>({kNan, -kInf}, {1, 2}, 1) == Indices{1});
  CHECK(top_k_of<float>({kNan, 4, kNan, kNan}, {1, 4}, 3) == Indices{1, 0, 2});
  for (const Indices& row : {top_k_of<float>({kNan, kNan, kNan}, {1, 3}, 3),
                             top_k_of<float>({kNan, 4, kNan}, {1, 3}, 3)}) {
    // Every index once, whatever the row holds.
    CHECK(Indices(row.size(), 1) == [&row] {
      Indices count(row.size(), 0);
      for (const int32_t i : row) ++count.at(static_cast<size_t>(i));
      return count;
    }());
  }
}

TEST_CASE("top_k: asks for no gradient") {
  StepArena arena;
  Tape tape(arena);
  const auto v = values<double>(6, 1);
  std::vector<double> grad(6);
  const Tensor y = top_k(tape.leaf(view(v, {2, 3}), view(grad, {2, 3})), 1);
  CHECK_FALSE(tape.wants_grad(y));
  CHECK(tape.node_count() == 0);
}

TEST_CASE("top_k: same bits for any number of threads") {
  const auto x = values<float>(5000 * 9, 1);
  CHECK(test::same_bits_for_threads([&] { return top_k_of(x, {5000, 9}, 3); }));
}

TEST_CASE("pick: takes the entries an index points at") {
  const Indices index = {2, 0, -1, 1, -1, -1};
  const auto x = values<float>(9, 1);
  const auto y = test::run_op<float>(pick_of(index, {3, 2}), {Shape{3, 3}}, {x}).y;
  CHECK(y == std::vector<float>{x[2], x[0], 0, x[4], 0, 0});
}

TEST_CASE("pick: gradient") {
  const Indices index = {2, 0, -1, 1, 1, 2};
  auto report = gradcheck(pick_of(index, {3, 2}), {Shape{3, 3}});
  CHECK_MESSAGE(report.ok(), report);
  const auto chain = [&index](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    const Tensor picked = pick(y, view(index, {3, 2}));
    return multiply(multiply(picked, pick(y, view(index, {3, 2}))),
                    pick(x[0], view(index, {3, 2})));
  };
  report = gradcheck(chain, {Shape{3, 3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("pick: same bits for any number of threads") {
  const auto x = values<float>(5000 * 9, 1);
  const auto index = naive_top_k(x, 9, 3);
  CHECK(test::op_same_bits_for_threads<float>(pick_of(index, {5000, 3}), {Shape{5000, 9}}));
}

TEST_CASE("top_k and pick: reject what they cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(6);
  const Tensor x = tape.input(view(v, {2, 3}));
  CHECK(caught([&] { top_k(x, 0); }).is(ErrorKind::kValue, {"top_k", "0", "3"}));
  CHECK(caught([&] { top_k(x, 4); }).is(ErrorKind::kValue, {"4", "3"}));
  CHECK(caught([&] { top_k(tape.input(view(v, {6})), 1); }).is(ErrorKind::kShape, {"(6)"}));
  CHECK(caught([&] { top_k(view(v, {2, 3}), 1); }).is(ErrorKind::kValue, {"tape"}));

  const Indices low = {0, -2}, high = {0, 3}, good = {0, 2};
  CHECK(caught([&] { pick(x, view(good, {2, 1})); }).kind == std::nullopt);
  CHECK(caught([&] { pick(x, view(low, {2, 1})); }).is(ErrorKind::kValue, {"-2", "3"}));
  CHECK(caught([&] { pick(x, view(high, {2, 1})); }).is(ErrorKind::kValue, {"index 3"}));
  CHECK(caught([&] { pick(x, view(good, {1, 2})); }).is(ErrorKind::kShape, {"(2,3)", "(1,2)"}));
  CHECK(caught([&] { pick(x, view(good, {2})); }).is(ErrorKind::kShape, {"(2)"}));
  CHECK(caught([&] { pick(tape.input(view(v, {6})), view(good, {2, 1})); }).is(ErrorKind::kShape));
  CHECK(caught([&] { pick(view(v, {2, 3}), view(good, {2, 1})); }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] { pick(x, view(v, {2, 3})); }).is(ErrorKind::kDtype, {"i32"}));
}
