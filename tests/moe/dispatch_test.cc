#include "moe/dispatch.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;

namespace {

using Ints = std::vector<int32_t>;

struct Plan {
  Ints expert_of, offset, choice_of_slot, slot_of;
  int64_t dropped;
};

// With gates: batch priority, unless another rule is given.
Plan plan_of(const Ints& chosen, int64_t k, int64_t experts, int64_t capacity = 0,
             int64_t group_tokens = 0, const naive::Vec& gates = {},
             moe::SlotRule rule = moe::SlotRule::kBatchPriority) {
  engine::StepArena arena;
  fill_with_nan(arena, 100'000);
  engine::Tape tape(arena);
  const auto n = static_cast<int64_t>(chosen.size()) / k;
  const moe::DispatchPlan p =
      moe::make_plan(tape, view(chosen, {n, k}), experts, capacity, group_tokens,
                     gates.empty() ? moe::SlotRule::kTokenOrder : rule,
                     gates.empty() ? engine::Tensor{} : view(gates, {n, experts}));
  CHECK(p.expert_of.shape() == engine::Shape{n, k});
  CHECK(p.map.slot_of.shape() == engine::Shape{n, k});
  CHECK(p.offset.shape() == engine::Shape{experts + 1});
  return {copy_of<int32_t>(p.expert_of), copy_of<int32_t>(p.offset),
          copy_of<int32_t>(p.map.choice_of_slot), copy_of<int32_t>(p.map.slot_of), p.dropped};
}

// The k best experts of each of n tokens whose gates are random; expert 0 is favoured.
struct Chosen {
  naive::Vec gates;
  Ints expert;
};
Chosen random_choices(int64_t n, int64_t experts, int64_t k, uint64_t seed) {
  Chosen c{values<double>(n * experts, seed), Ints(static_cast<size_t>(n * k))};
  for (int64_t i = 0; i < n; ++i) c.gates[static_cast<size_t>(i * experts)] += 0.4;
  naive::Indices row(static_cast<size_t>(k));
  for (int64_t i = 0; i < n; ++i) {
    naive::top_k(&c.gates[static_cast<size_t>(i * experts)], experts, k, row.data());
    for (int64_t j = 0; j < k; ++j) c.expert[i * k + j] = static_cast<int32_t>(row[j]);
  }
  return c;
}

// What must hold of every plan: slots are sorted by expert, then by choice; the two maps are
// inverse; a dropped choice, and only that, has no slot.
void check_plan(const Plan& p, int64_t experts) {
  CHECK(p.offset.front() == 0);
  CHECK(p.offset.back() == static_cast<int32_t>(p.choice_of_slot.size()));
  CHECK(p.dropped == std::count(p.expert_of.begin(), p.expert_of.end(), -1));
  CHECK(p.dropped + p.offset.back() == static_cast<int64_t>(p.expert_of.size()));
  bool right = true;
  for (int64_t e = 0; e < experts; ++e) {
    right &= p.offset[e] <= p.offset[e + 1];
    for (int32_t s = p.offset[e]; s < p.offset[e + 1]; ++s) {
      right &= p.expert_of[p.choice_of_slot[s]] == e && p.slot_of[p.choice_of_slot[s]] == s;
      right &= s == p.offset[e] || p.choice_of_slot[s - 1] < p.choice_of_slot[s];
    }
  }
  for (size_t c = 0; c < p.slot_of.size(); ++c) {
    right &= (p.slot_of[c] < 0) == (p.expert_of[c] < 0);
  }
  CHECK(right);
}

}  // namespace

TEST_CASE("dispatch: capacity of the published configurations") {
  struct Row {
    int64_t tokens, k;
    double factor;
    int64_t exact, rounded;
  };
  for (const Row& r : {Row{400, 2, 1.05, 105, 108},
                       {400, 2, 4.0, 400, 400},
                       {1160, 2, 1.5, 435, 436},
                       {1160, 1, 1.5, 218, 220},
                       {136, 2, 1.5, 51, 52},
                       {136, 1, 1.5, 26, 28}}) {
    CAPTURE(r.tokens);
    CHECK(moe::capacity_of(r.tokens, r.k, 8, r.factor, 1) == r.exact);
    CHECK(moe::capacity_of(r.tokens, r.k, 8, r.factor, 4) == r.rounded);
  }
}

TEST_CASE("dispatch: capacity below one is an error") {
  CHECK(moe::capacity_of(4, 1, 8, 1e-3, 4) == 4);
  CHECK(caught([] { moe::capacity_of(4, 1, 8, 0, 4); }).is(ErrorKind::kValue, {"capacity"}));
  CHECK(caught([] { moe::capacity_of(4, 1, 8, -1, 4); }).is(ErrorKind::kValue));
  CHECK(caught([] { moe::capacity_of(0, 1, 8, 1, 4); }).is(ErrorKind::kValue));
}

TEST_CASE("dispatch: who is dropped, four tokens, three experts with one place") {
  // Gates .5 .3 .2 | .6 .1 .3 | .45 .15 .4 | .2 .7 .1
  const Plan p = plan_of({0, 1, 0, 2, 0, 2, 1, 0}, 2, 3, 1, 4);
  CHECK(p.expert_of == Ints{0, -1, -1, 2, -1, -1, 1, -1});
  CHECK(p.offset == Ints{0, 1, 2, 3});
  CHECK(p.choice_of_slot == Ints{0, 6, 3});
  CHECK(p.slot_of == Ints{0, -1, -1, 2, -1, -1, 1, -1});
  CHECK(p.dropped == 5);
  check_plan(p, 3);
}

TEST_CASE("dispatch: batch priority serves the surest tokens first") {
  const naive::Vec gates = {.5, .3, .2, .6, .1, .3, .45, .15, .4, .2, .7, .1};
  const Ints chosen = {0, 1, 0, 2, 0, 2, 1, 0};
  const Plan p = plan_of(chosen, 2, 3, 1, 4, gates);
  CHECK(p.expert_of == Ints{-1, -1, 0, 2, -1, -1, 1, -1});
  check_plan(p, 3);
  // Groups are served by themselves, and without a capacity the order is of no account.
  CHECK(plan_of(chosen, 2, 3, 1, 2, gates).expert_of == Ints{-1, 1, 0, 2, 0, 2, 1, -1});
  CHECK(plan_of(chosen, 2, 3, 0, 4, gates).expert_of == chosen);
  // Equal gates, and those that are no number, go in the order of the tokens.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(plan_of({0, 0, 0}, 1, 2, 2, 3, {.6, .4, .6, .4, .6, .4}).expert_of == Ints{0, 0, -1});
  CHECK(plan_of({0, 0, 0}, 1, 2, 1, 3, {nan, nan, nan, nan, .6, .4}).expert_of == Ints{-1, -1, 0});
  CHECK(plan_of({0, 0}, 1, 2, 1, 2, {nan, nan, nan, nan}).expert_of == Ints{0, -1});
}

TEST_CASE("dispatch: experts take the tokens that prefer them most") {
  using moe::SlotRule;
  const naive::Vec gates = {.5, .3, .2, .6, .1, .3, .45, .15, .4, .2, .7, .1};
  const Ints ranking = {0, 1, 2, 0, 2, 1, 0, 2, 1, 1, 0, 2};
  const Plan one = plan_of(ranking, 3, 3, 1, 4, gates, SlotRule::kExpertChoice);
  // Expert 0 takes token 1, expert 1 token 3, expert 2 token 2; token 0 is left out.
  CHECK(one.expert_of == Ints{-1, -1, -1, 0, -1, -1, -1, 2, -1, 1, -1, -1});
  CHECK(one.choice_of_slot == Ints{3, 9, 7});
  CHECK(one.dropped == 1);
  const Plan two = plan_of(ranking, 3, 3, 2, 4, gates, SlotRule::kExpertChoice);
  CHECK(two.expert_of == Ints{0, 1, -1, 0, 2, -1, -1, 2, -1, 1, -1, -1});
  CHECK(two.dropped == 0);
  const Plan all = plan_of(ranking, 3, 3, 4, 4, gates, SlotRule::kExpertChoice);
  CHECK(all.expert_of == ranking);
  // Groups by themselves; equal gates go to the earlier token.
  CHECK(plan_of(ranking, 3, 3, 1, 2, gates, SlotRule::kExpertChoice).expert_of ==
        Ints{-1, 1, -1, 0, 2, -1, 0, 2, -1, 1, -1, -1});
  CHECK(plan_of({0, 1, 0, 1}, 2, 2, 1, 2, {.5, .5, .5, .5}, SlotRule::kExpertChoice).expert_of ==
        Ints{0, 1, -1, -1});
  CHECK(caught([&] {
          plan_of({0, 1}, 1, 2, 1, 2, {.5, .5, .5, .5}, SlotRule::kExpertChoice);
        }).is(ErrorKind::kShape));
}

TEST_CASE("dispatch: experts' choices against sorting, in every group") {
  const int64_t n = 60, experts = 5;
  const Chosen c = random_choices(n, experts, experts, 9);
  for (const auto& [capacity, group] : {std::pair{1, 60}, {7, 20}, {3, 4}, {12, 12}}) {
    const Plan p =
        plan_of(c.expert, experts, experts, capacity, group, c.gates, moe::SlotRule::kExpertChoice);
    int64_t unserved = 0, wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
      int64_t taken = 0;
      for (int64_t j = 0; j < experts; ++j) {
        const int32_t e = c.expert[i * experts + j];
        int64_t better = 0;  // tokens of the group that e likes more
        for (int64_t other = i / group * group; other < (i / group + 1) * group; ++other) {
          better += c.gates[other * experts + e] > c.gates[i * experts + e] ? 1 : 0;
        }
        const bool takes = better < capacity;
        wrong += p.expert_of[i * experts + j] == (takes ? e : -1) ? 0 : 1;
        taken += takes ? 1 : 0;
      }
      unserved += taken == 0 ? 1 : 0;
    }
    CHECK(wrong == 0);
    CHECK(p.dropped == unserved);
    for (int64_t e = 0; e < experts; ++e) {
      CHECK(p.offset[e + 1] - p.offset[e] == std::min<int64_t>(capacity, group) * (n / group));
    }
  }
}

TEST_CASE("dispatch: the first choice of a late token comes before the second of an early one") {
  // Both want expert 0, which has one place: token 0 as its second choice, token 1 as its first.
  CHECK(plan_of({1, 0, 0, 1}, 2, 2, 1, 2).expert_of == Ints{1, -1, 0, -1});
}

TEST_CASE("dispatch: without a capacity all is kept, in the order of the tokens") {
  const Plan p = plan_of({2, 0, 0, 2, 2, 3, 0, 2}, 2, 5);
  CHECK(p.dropped == 0);
  CHECK(p.expert_of == Ints{2, 0, 0, 2, 2, 3, 0, 2});
  CHECK(p.offset == Ints{0, 3, 3, 7, 8, 8});  // experts 1 and 4 get nothing
  CHECK(p.choice_of_slot == Ints{1, 2, 6, 0, 3, 4, 7, 5});
  check_plan(p, 5);
}

TEST_CASE("dispatch: drops what the naive routing drops, in every group") {
  for (const auto& [experts, k, capacity, group, groups] : {std::tuple{4, 2, 5, 12, 3},
                                                            {4, 1, 2, 12, 1},
                                                            {7, 3, 4, 10, 4},
                                                            {3, 3, 6, 8, 2},
                                                            {2, 2, 1, 1, 9},
                                                            {1, 1, 3, 5, 2},
                                                            {8, 2, 1, 40, 2}}) {
    const int64_t n = int64_t{group} * groups;
    const Chosen c = random_choices(n, experts, k, 5);
    for (const auto priority : {naive::Priority::kVanilla, naive::Priority::kBatch}) {
      const bool batch = priority == naive::Priority::kBatch;
      const Plan p = plan_of(c.expert, k, experts, capacity, group, batch ? c.gates : naive::Vec{});
      check_plan(p, experts);
      naive::Indices want(static_cast<size_t>(n * k));
      naive::Vec weight(want.size());
      for (int64_t begin = 0; begin < n; begin += group) {
        naive::route(&c.gates[static_cast<size_t>(begin * experts)], group, experts, k, capacity,
                     priority, &want[static_cast<size_t>(begin * k)],
                     &weight[static_cast<size_t>(begin * k)]);
      }
      CHECK(naive::Indices(p.expert_of.begin(), p.expert_of.end()) == want);
      CHECK((p.dropped > 0) == (capacity < group && experts != 2));
      // No group gives more to an expert than it has places.
      for (int64_t e = 0; e < experts; ++e) {
        CHECK(p.offset[e + 1] - p.offset[e] <= capacity * groups);
      }
    }
    check_plan(plan_of(c.expert, k, experts), experts);
  }
}

TEST_CASE("dispatch: routing groups must divide the tokens") {
  const Ints chosen(12, 0);
  CHECK(caught([&] { plan_of(chosen, 1, 3, 2, 5); }).is(ErrorKind::kValue, {"5", "12"}));
  CHECK(caught([&] { plan_of(chosen, 1, 3, 2, 0); }).is(ErrorKind::kValue));
  CHECK(caught([&] { plan_of(chosen, 1, 3, 2, 24); }).is(ErrorKind::kValue));
  CHECK_FALSE(caught([&] { plan_of(chosen, 1, 3, 0, 5); }).kind);  // dropless has no groups
}
