#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/core/workspace.h"
#include "moe/dispatch_kernels.h"

namespace moe::kernels {
namespace {

// Marks refused choices of the tokens [begin, begin + count) with -1. `order`: which of them is
// served first, second, ... in every round.
void drop_over_capacity(int32_t* expert, int64_t begin, int64_t count, int64_t k, int64_t capacity,
                        const int32_t* order, int32_t* counter) {
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t i = 0; i < count; ++i) {
      int32_t& e = expert[(begin + order[i]) * k + j];
      if (counter[e]++ >= capacity) e = -1;
    }
  }
}

// Scratch for one group of tokens.
struct Group {
  int64_t begin, count;  // its tokens
  int32_t* order;        // (count) which of them come first, second, ...; from 0
  double* key;           // (count)
};

// Key i is the gate of token i for the expert that expert_of(i) names.
template <class T, class F>
void take_keys(const Group& g, const T* gates, int64_t experts, F&& expert_of) {
  for (int64_t i = 0; i < g.count; ++i) {
    const auto gate = static_cast<double>(gates[(g.begin + i) * experts + expert_of(g.begin + i)]);
    g.key[i] = std::isnan(gate) ? -1 : gate;
  }
  std::iota(g.order, g.order + g.count, 0);
}

// By decreasing key. With the index as second key the order is total, so that it needs no stable
// sort, which would allocate.
auto by_key(const Group& g) {
  return [key = g.key](int32_t a, int32_t b) {
    return key[a] > key[b] || (key[a] == key[b] && a < b);
  };
}

// Every expert keeps the `capacity` tokens with the largest gates.
template <class T>
void experts_choose(const Group& g, const T* gates, const PlanSize& size, int32_t* expert) {
  if (size.capacity >= g.count) return;
  for (int64_t e = 0; e < size.experts; ++e) {
    take_keys(g, gates, size.experts, [e](int64_t) { return e; });
    std::nth_element(g.order, g.order + size.capacity, g.order + g.count, by_key(g));
    for (int64_t i = size.capacity; i < g.count; ++i) {
      int32_t* row = expert + (g.begin + g.order[i]) * size.experts;
      *std::find(row, row + size.experts, static_cast<int32_t>(e)) = -1;
    }
  }
}

template <class T>
void tokens_choose(const Group& g, const int32_t* chosen, const T* gates, const PlanSize& size,
                   SlotRule rule, int32_t* expert, int32_t* counter) {
  const int64_t k = size.choices;
  if (rule == SlotRule::kBatchPriority) {
    take_keys(g, gates, size.experts, [=](int64_t token) { return chosen[token * k]; });
    std::sort(g.order, g.order + g.count, by_key(g));
  } else {
    std::iota(g.order, g.order + g.count, 0);
  }
  std::fill_n(counter, size.experts, 0);
  drop_over_capacity(expert, g.begin, g.count, k, size.capacity, g.order, counter);
}

}  // namespace

template <class T>
void give_out_slots(engine::Cpu, const int32_t* chosen, const T* gates, const PlanSize& size,
                    SlotRule rule, int32_t* expert_of) {
  auto* order = engine::workspace<int32_t>(0, size.group_tokens);
  auto* key = engine::workspace<double>(1, size.group_tokens);
  auto* counter = engine::workspace<int32_t>(2, size.experts);
  std::copy_n(chosen, size.tokens * size.choices, expert_of);
  for (int64_t begin = 0; begin < size.tokens; begin += size.group_tokens) {
    const Group group{begin, size.group_tokens, order, key};
    if (rule == SlotRule::kExpertChoice) {
      experts_choose(group, gates, size, expert_of);
    } else {
      tokens_choose(group, chosen, gates, size, rule, expert_of, counter);
    }
  }
}

void find_slots(engine::Cpu, const int32_t* expert_of, int64_t count, int64_t experts,
                int32_t* offset, int32_t* slot_of) {
  // Count, prefix sums, place in token order.
  std::fill_n(offset, experts + 1, 0);
  for (int64_t c = 0; c < count; ++c) {
    if (expert_of[c] >= 0) ++offset[expert_of[c] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) offset[e + 1] += offset[e];
  for (int64_t c = 0; c < count; ++c) slot_of[c] = expert_of[c] < 0 ? -1 : offset[expert_of[c]]++;
  // Placing moved every offset to its successor's start: shift back.
  for (int64_t e = experts; e > 0; --e) offset[e] = offset[e - 1];
  offset[0] = 0;
}

void invert_slots(engine::Cpu, const int32_t* slot_of, int64_t count, const int32_t* used,
                  int64_t slots, int32_t* choice_of_slot) {
  for (int64_t c = 0; c < count; ++c) {
    if (slot_of[c] >= 0) choice_of_slot[slot_of[c]] = static_cast<int32_t>(c);
  }
  std::fill(choice_of_slot + *used, choice_of_slot + slots, -1);
}

void copy(engine::Cpu, const int32_t* from, int64_t count, int32_t* to) {
  std::copy_n(from, count, to);
}

template void give_out_slots(engine::Cpu, const int32_t*, const float*, const PlanSize&, SlotRule,
                             int32_t*);
template void give_out_slots(engine::Cpu, const int32_t*, const double*, const PlanSize&, SlotRule,
                             int32_t*);

}  // namespace moe::kernels
