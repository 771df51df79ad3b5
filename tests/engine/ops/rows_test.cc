#include "engine/ops/rows.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "engine/ops/layer_norm.h"
#include "engine/ops/linear.h"
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

using Indices = std::vector<int32_t>;

// A dispatch of N items with K choices, experts' slots one after the other; -1 is dropped.
struct Plan {
  Plan(const Indices& expert_of, int64_t k, int32_t experts)
      : items(static_cast<int64_t>(expert_of.size()) / k),
        choices(k),
        slot_of(expert_of.size(), -1),
        offset{0} {
    for (int32_t e = 0; e < experts; ++e) {
      for (size_t c = 0; c < expert_of.size(); ++c) {
        if (expert_of[c] != e) continue;
        slot_of[c] = static_cast<int32_t>(choice_of_slot.size());
        choice_of_slot.push_back(static_cast<int32_t>(c));
      }
      offset.push_back(static_cast<int32_t>(choice_of_slot.size()));
    }
  }
  int64_t slots() const { return static_cast<int64_t>(choice_of_slot.size()); }
  RowMap map() const { return {view(choice_of_slot, {slots()}), view(slot_of, {items, choices})}; }
  int64_t items, choices;
  Indices choice_of_slot, slot_of, offset;
};

// Item 1 lost one choice, item 3 all of them; expert 1 has no rows.
const Plan& small_plan() {
  static const Plan plan({2, 0, -1, 2, 0, 3, -1, -1, 3, 2}, 2, 4);
  return plan;
}

// Choices of many items, a seventh of them dropped.
Plan large_plan(int64_t items, int64_t choices) {
  Indices expert_of;
  for (int64_t i = 0; i < items * choices; ++i) {
    const auto r = static_cast<int32_t>((test::noise(5, i) + 1) * 3.5);
    expert_of.push_back(r == 6 ? -1 : r);
  }
  return {expert_of, choices, 6};
}

test::Function gather_of(const Plan& plan) {
  return [&plan](std::span<const Tensor> x) { return gather_rows(x[0], plan.map()); };
}
test::Function combine_of(const Plan& plan, bool residual) {
  return [&plan, residual](std::span<const Tensor> x) {
    return combine_rows(x[0], x[1], plan.map(), residual ? &x[2] : nullptr);
  };
}

std::vector<Shape> combine_shapes(const Plan& plan, int64_t width) {
  return {{plan.slots(), width}, {plan.items, plan.choices}, {plan.items, width}};
}

}  // namespace

TEST_CASE("rows: the test's plan drops and leaves an expert empty") {
  const Plan& plan = small_plan();
  CHECK(plan.offset == Indices{0, 2, 2, 5, 7});
  CHECK(plan.slot_of == Indices{2, 0, -1, 3, 1, 5, -1, -1, 6, 4});
  const Plan large = large_plan(1000, 2);
  CHECK(large.slots() < 2000);
  CHECK(large.slots() > 1000);
}

TEST_CASE("gather_rows: copies the items' rows into slots") {
  for (const int64_t width : {1, 7, 16, 17, 300}) {
    const Plan plan = large_plan(100, 2);
    const auto x = values<float>(100 * width, 1);
    const auto xs = run_op<float>(gather_of(plan), {Shape{100, width}}, {x}).y;
    bool right = static_cast<int64_t>(xs.size()) == plan.slots() * width;
    for (int64_t s = 0; s < plan.slots(); ++s) {
      for (int64_t d = 0; d < width; ++d) {
        right &= xs[s * width + d] == x[plan.choice_of_slot[s] / 2 * width + d];
      }
    }
    CHECK(right);
  }
}

TEST_CASE("combine_rows: adds up weighted slots and the residual") {
  for (const int64_t width : {1, 7, 16, 17, 300}) {
    for (const bool residual : {false, true}) {
      const Plan plan = large_plan(100, 3);
      const auto shapes = combine_shapes(plan, width);
      const std::vector<std::vector<float>> in = {values<float>(shapes[0].numel(), 1),
                                                  values<float>(shapes[1].numel(), 2),
                                                  values<float>(shapes[2].numel(), 3)};
      std::vector<double> want(in[2].size(), 0);
      if (residual) want.assign(in[2].begin(), in[2].end());
      for (int64_t c = 0; c < 300; ++c) {
        for (int64_t d = 0; d < width && plan.slot_of[c] >= 0; ++d) {
          want[c / 3 * width + d] += double(in[1][c]) * in[0][plan.slot_of[c] * width + d];
        }
      }
      CHECK(distance(run_op<float>(combine_of(plan, residual), shapes, in).y, want) < 1e-6);
    }
  }
}

TEST_CASE("combine_rows: an item without slots is its residual") {
  const Plan& plan = small_plan();
  const auto shapes = combine_shapes(plan, 4);
  const auto residual = values<float>(20, 3);
  const auto with = run_op<float>(combine_of(plan, true), shapes).y;
  const auto without = run_op<float>(combine_of(plan, false), shapes).y;
  for (size_t d = 12; d < 16; ++d) {
    CHECK(with[d] == residual[d]);
    CHECK(without[d] == 0);
  }
}

TEST_CASE("combine_rows: a dropped choice has no weight gradient and does not see NaN") {
  const Plan& plan = small_plan();
  const auto shapes = combine_shapes(plan, 4);
  auto weight = values<float>(10, 2);
  weight[2] = weight[6] = weight[7] = std::nanf("");  // the dropped choices
  const auto run = run_op<float>(combine_of(plan, true), shapes,
                                 {values<float>(28, 1), weight, values<float>(20, 3)});
  CHECK(std::all_of(run.y.begin(), run.y.end(), [](float v) { return std::isfinite(v); }));
  for (const size_t dropped : {2, 6, 7}) CHECK(run.grads[1][dropped] == 0);
  CHECK(run.grads[1][3] != 0);
}

TEST_CASE("rows: gradients") {
  const Plan& plan = small_plan();
  auto report = gradcheck(gather_of(plan), {Shape{5, 3}});
  CHECK_MESSAGE(report.ok(), report);
  for (const bool residual : {false, true}) {
    report = gradcheck(combine_of(plan, residual), combine_shapes(plan, 3));
    CHECK_MESSAGE(report.ok(), report);
  }
  const Plan large = large_plan(700, 2);
  report = test::gradcheck_along(gather_of(large), {Shape{700, 37}});
  CHECK_MESSAGE(report.ok(), report);
  report = test::gradcheck_along(combine_of(large, true), combine_shapes(large, 37));
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("rows: gradients when only some inputs want one") {
  const Plan& plan = small_plan();
  const auto shapes = combine_shapes(plan, 3);
  const auto ys = values<double>(21, 1), w = values<double>(10, 2), r = values<double>(15, 3);
  for (size_t which = 0; which < 3; ++which) {
    const auto f = [&](std::span<const Tensor> in) {
      const Tensor fixed[3] = {in[0].tape()->input(view(ys, shapes[0])), view(w, shapes[1]),
                               view(r, shapes[2])};
      const auto at = [&](size_t i) { return i == which ? in[0] : fixed[i]; };
      const Tensor residual = at(2);
      return combine_rows(at(0), at(1), plan.map(), &residual);
    };
    const auto report = gradcheck(f, {shapes[which]});
    CHECK_MESSAGE(report.ok(), report);
  }
}

TEST_CASE("rows: gradients overwrite and add") {
  const Plan& plan = small_plan();
  const auto f = [&](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2), w = scale(x[1], 3), r = scale(x[2], 4);
    const Tensor once = combine_rows(y, w, plan.map(), &r);
    return multiply(once, combine_rows(y, w, plan.map(), &r));
  };
  auto report = gradcheck(f, combine_shapes(plan, 3));
  CHECK_MESSAGE(report.ok(), report);
  const auto g = [&](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    return multiply(gather_rows(y, plan.map()), gather_rows(y, plan.map()));
  };
  report = gradcheck(g, {Shape{5, 3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("rows: gradient of a whole sparse layer twice in a row") {
  const Plan& plan = small_plan();
  const auto layer = [&](const Tensor& x, std::span<const Tensor> p) {
    const Tensor h = layer_norm(x, p[1], p[2]);
    const Tensor xs = gather_rows(h, plan.map());
    const Tensor offset = view(plan.offset, {5});
    const Tensor mid = grouped_linear(xs, p[3], p[4], offset, {.gelu = true});
    return combine_rows(grouped_linear(mid, p[5], {}, offset), p[6], plan.map(), &x);
  };
  const auto f = [&](std::span<const Tensor> x) { return layer(layer(x[0], x), x); };
  const auto report = gradcheck(f, {Shape{5, 2}, Shape{2}, Shape{2}, Shape{4, 2, 3}, Shape{4, 3},
                                    Shape{4, 3, 2}, Shape{5, 2}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("rows: same bits for any number of threads") {
  const Plan plan = large_plan(2000, 3);
  CHECK(test::op_same_bits_for_threads<float>(gather_of(plan), {Shape{2000, 65}}));
  CHECK(test::op_same_bits_for_threads<float>(combine_of(plan, true), combine_shapes(plan, 65)));
}

TEST_CASE("rows: reject what they cannot do") {
  StepArena arena;
  Tape tape(arena);
  const Plan& plan = small_plan();
  const RowMap map = plan.map();
  const std::vector<float> x(15), x4(12), ys(21), ys6(18), w(10);
  const Tensor on_x = tape.input(view(x, {5, 3})), on_ys = tape.input(view(ys, {7, 3}));
  const Tensor weight = view(w, {5, 2}), residual = view(x, {5, 3}), wide = view(x, {3, 5});
  CHECK(caught([&] { gather_rows(on_x, map); }).kind == std::nullopt);
  CHECK(caught([&] { gather_rows(view(x, {5, 3}), map); }).is(ErrorKind::kValue, {"tape"}));
  CHECK(
      caught([&] { gather_rows(tape.input(view(x, {15})), map); }).is(ErrorKind::kShape, {"(15)"}));
  CHECK(caught([&] {
          gather_rows(tape.input(view(x4, {4, 3})), map);
        }).is(ErrorKind::kShape, {"gather_rows", "4", "5"}));
  const RowMap flat{map.choice_of_slot, map.slot_of.viewed({10})};
  CHECK(caught([&] { gather_rows(on_x, flat); }).is(ErrorKind::kShape, {"(10)"}));

  CHECK(caught([&] { combine_rows(on_ys, weight, map, &residual); }).kind == std::nullopt);
  CHECK(caught([&] {
          combine_rows(view(ys, {7, 3}), weight, map);
        }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] {
          combine_rows(tape.input(view(ys6, {6, 3})), weight, map);
        }).is(ErrorKind::kShape, {"combine_rows", "(6,3)"}));
  CHECK(caught([&] {
          combine_rows(on_ys, view(w, {2, 5}), map);
        }).is(ErrorKind::kShape, {"(2,5)"}));
  CHECK(caught([&] { combine_rows(on_ys, weight, map, &wide); }).is(ErrorKind::kShape, {"(3,5)"}));
  CHECK(caught([&] {
          combine_rows(tape.input(view(ys, {21})), weight, map);
        }).is(ErrorKind::kShape, {"(21)"}));
  CHECK(caught([&] { combine_rows(on_ys, weight, flat); }).is(ErrorKind::kShape));
}
