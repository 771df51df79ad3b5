#include "engine/ops/concat.h"

#include <doctest/doctest.h>

#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

Tensor all_of(std::span<const Tensor> x) { return concat(x); }

}  // namespace

TEST_CASE("concat: rows one behind the other, none of an empty one") {
  const auto a = values<float>(6, 1), b = values<float>(3, 2);
  std::vector<float> want = a;
  want.insert(want.end(), b.begin(), b.end());
  CHECK(run_op<float>(all_of, {Shape{2, 3}, Shape{1, 3}}, {a, b}).y == want);
  CHECK(run_op<float>(all_of, {Shape{2, 3}, Shape{0, 3}, Shape{1, 3}}, {a, {}, b}).y == want);
  CHECK(run_op<float>(all_of, {Shape{6}}, {a}).y == a);
}

TEST_CASE("concat: gradients, of a part that is there twice too") {
  CHECK(gradcheck(all_of, {Shape{2, 3}, Shape{1, 3}, Shape{4, 3}}).ok());
  CHECK(gradcheck(all_of, {Shape{1, 2, 2, 2}, Shape{3, 2, 2, 2}}).ok());
  const auto twice = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    const std::vector<Tensor> parts = {y, x[1], y};
    return multiply(concat(parts), concat(parts));
  };
  const auto report = gradcheck(twice, {Shape{2, 3}, Shape{1, 3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("concat: same bits for any number of threads") {
  CHECK(test::op_same_bits_for_threads<float>(all_of, {Shape{300, 100}, Shape{7, 100}}));
}

TEST_CASE("concat: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(6);
  const Tensor x = tape.input(view(v, {2, 3}));
  const std::vector<Tensor> wide = {x, tape.input(view(v, {3, 2}))}, off = {x, view(v, {2, 3})};
  CHECK(caught([&] { concat({}); }).is(ErrorKind::kValue, {"nothing"}));
  CHECK(caught([&] { concat(wide); }).is(ErrorKind::kShape, {"(3,2)", "(2,3)"}));
  CHECK(caught([&] { concat(off); }).is(ErrorKind::kValue, {"tape"}));
}
