#include "moe/dispatch.h"

#include <doctest/doctest.h>

#include <limits>

#include "engine/ops/top_k.h"
#include "moe/moe_layer.h"
#include "tests/support/parity.h"
#include "tests/support/sanitized.h"

using namespace engine;
using namespace engine::test;
using moe::SlotRule;

namespace {

using Ints = std::vector<int32_t>;

struct Case {
  int64_t groups, group_tokens, experts, k, capacity;
  SlotRule rule;
  int64_t tokens() const { return groups * group_tokens; }
};

struct Plan {
  Ints expert_of, offset, choice_of_slot, slot_of;
  int64_t dropped;
};

// Gates in steps, so that many are equal; some negative, which the NaN rule shows, and -0 beside 0.
template <class T>
std::vector<T> coarse_gates(const Case& c, uint64_t seed, double steps) {
  auto gates = test_values<T>(seed, c.tokens() * c.experts, steps);
  for (T& g : gates) g = static_cast<T>(std::trunc(g) / steps * 2);
  for (size_t i = 0; i < gates.size(); i += 13) gates[i] = std::numeric_limits<T>::quiet_NaN();
  return gates;
}

template <class T>
Plan plan_on(Device device, const Case& c, const std::vector<T>& gates, const Ints& chosen) {
  StepArena arena(device);
  Tape tape(arena);
  const Tensor where = on(arena, chosen, {c.tokens(), c.k});
  const Tensor by =
      c.rule == SlotRule::kTokenOrder ? Tensor{} : on(arena, gates, {c.tokens(), c.experts});
  const moe::DispatchPlan p =
      moe::make_plan(tape, where, c.experts, c.capacity, c.group_tokens, c.rule, by);
  CHECK((device == Device::kCpu) == (p.dropped >= 0));
  return {download<int32_t>(p.expert_of), download<int32_t>(p.offset),
          download<int32_t>(p.map.choice_of_slot), download<int32_t>(p.map.slot_of), p.dropped};
}

// The k largest gates on the CPU, or every fifth token's first choices turned towards expert 0.
template <class T>
Ints choices(const Case& c, const std::vector<T>& gates) {
  StepArena arena;
  Tape tape(arena);
  return download<int32_t>(top_k(tape.input(on(arena, gates, {c.tokens(), c.experts})), c.k));
}

template <class T>
void check_plan(const Case& c, double steps) {
  CAPTURE(c.groups);
  CAPTURE(c.group_tokens);
  CAPTURE(c.experts);
  CAPTURE(c.k);
  CAPTURE(c.capacity);
  CAPTURE(static_cast<int>(c.rule));
  const auto gates = coarse_gates<T>(c, 7, steps);
  const Ints chosen = choices(c, gates);
  const Plan want = plan_on(Device::kCpu, c, gates, chosen);
  Plan got = plan_on(Device::kCuda, c, gates, chosen);
  CHECK(got.expert_of == want.expert_of);
  CHECK(got.offset == want.offset);
  CHECK(got.slot_of == want.slot_of);
  const int64_t choices = c.tokens() * c.k;
  const int64_t slots =
      c.capacity == 0 ? choices : std::min(choices, c.groups * c.experts * c.capacity);
  REQUIRE(static_cast<int64_t>(got.choice_of_slot.size()) == slots);
  const auto used = static_cast<size_t>(want.offset.back());
  CHECK(std::all_of(got.choice_of_slot.begin() + static_cast<int64_t>(used),
                    got.choice_of_slot.end(), [](int32_t choice) { return choice == -1; }));
  got.choice_of_slot.resize(used);
  CHECK(got.choice_of_slot == want.choice_of_slot);
}

constexpr SlotRule kRules[] = {SlotRule::kTokenOrder, SlotRule::kBatchPriority,
                               SlotRule::kExpertChoice};

}  // namespace

TEST_CASE("cuda: dropless plans as on the CPU" * doctest::skip(!cuda_available())) {
  // Choices below, at and above a chunk of 1024; experts without tokens, one, as many as can be.
  for (const auto& [tokens, experts, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                              {5, 4, 2},
                                                                              {31, 8, 3},
                                                                              {512, 8, 2},
                                                                              {1024, 1, 1},
                                                                              {513, 7, 2},
                                                                              {1700, 64, 3},
                                                                              {40, 1024, 2},
                                                                              {1100, 33, 1}}) {
    check_plan<float>({1, tokens, experts, k, 0, SlotRule::kTokenOrder}, 50);
  }
  check_plan<float>({1, 0, 4, 2, 0, SlotRule::kTokenOrder}, 50);
  check_plan<float>({1, 5200, 1024, 1, 0, SlotRule::kTokenOrder}, 1e6);  // two rounds of the scan
}

TEST_CASE("cuda: plans with a capacity as on the CPU" * doctest::skip(!cuda_available())) {
  for (const SlotRule rule : kRules) {
    const bool all = rule == SlotRule::kExpertChoice;
    for (const auto& [groups, tokens, experts, k] : std::vector<std::array<int64_t, 4>>{
             {1, 1, 1, 1}, {1, 9, 4, 2}, {3, 65, 5, 3}, {2, 511, 8, 2}, {7, 33, 3, 1}}) {
      const int64_t named = all ? experts : k;
      for (const int64_t capacity : {int64_t{1}, tokens / 3 + 1, tokens - 1, tokens + 2}) {
        if (capacity < 1) continue;
        for (const double steps : {1., 6., 1e5}) {
          if (kSanitized && steps == 6) continue;
          const Case c{groups, tokens, experts, named, std::min(capacity, all ? tokens : capacity),
                       rule};
          check_plan<float>(c, steps);
          if (!kSanitized) check_plan<double>(c, steps);
        }
      }
    }
    // More than one round of a block.
    for (const double steps : {3., 1e6}) {
      check_plan<float>({1, 4500, 3, all ? 3 : 2, 1400, rule}, steps);
      check_plan<double>({2, 2049, 2, all ? 2 : 1, 700, rule}, steps);
    }
  }
}

TEST_CASE("cuda: gates that are no numbers go last, in token order" *
          doctest::skip(!cuda_available())) {
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  const double tiny = std::numeric_limits<double>::denorm_min();
  // -0 is 0, NaN is -1.
  const std::vector<double> gates = {nan, -0.0, -1, 0.0, nan, tiny, -2, -tiny, 1, nan};
  const Ints chosen(10, 0);
  for (const SlotRule rule : {SlotRule::kBatchPriority, SlotRule::kExpertChoice}) {
    for (int64_t capacity = 1; capacity <= 10; ++capacity) {
      CAPTURE(capacity);
      const Case c{1, 10, 1, 1, capacity, rule};
      CHECK(plan_on(Device::kCuda, c, gates, chosen).expert_of ==
            plan_on(Device::kCpu, c, gates, chosen).expert_of);
    }
  }
}

TEST_CASE("cuda: a refused request counts in later rounds" * doctest::skip(!cuda_available())) {
  // Expert 0: both tokens' first choice, then nobody's; expert 1 is asked in both rounds.
  const Case c{1, 3, 3, 2, 1, SlotRule::kTokenOrder};
  const Ints chosen = {0, 1, 0, 1, 1, 0};
  CHECK(plan_on<float>(Device::kCuda, c, {}, chosen).expert_of == Ints{0, -1, -1, -1, 1, -1});
}

TEST_CASE("cuda: what a plan refuses" * doctest::skip(!cuda_available())) {
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Tensor chosen = on(arena, Ints(6, 0), {6, 1});
  CHECK_THROWS_AS(moe::make_plan(tape, chosen, 2, 1, 4), Error);
  CHECK_THROWS_AS(moe::make_plan(tape, chosen, 2, 1, 3, SlotRule::kBatchPriority), Error);
  CHECK_THROWS_AS(moe::make_plan(tape, chosen, 1025, 0, 6), Error);
  CHECK_NOTHROW(moe::make_plan(tape, chosen, 1024, 0, 6));
}
