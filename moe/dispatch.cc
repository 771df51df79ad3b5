#include "moe/dispatch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/core/backend.h"

namespace moe {

using engine::check;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tensor;

int64_t capacity_of(int64_t group_tokens, int64_t top_k, int64_t experts, double factor,
                    int64_t multiple_of) {
  const double exact =
      static_cast<double>(group_tokens * top_k) * factor / static_cast<double>(experts);
  const int64_t slots = static_cast<int64_t>(std::ceil(exact));
  check(slots >= 1, ErrorKind::kValue, "an expert's capacity is ", slots, " for ", group_tokens,
        " tokens, ", top_k, " choices, ", experts, " experts and capacity_factor ", factor);
  return (slots + multiple_of - 1) / multiple_of * multiple_of;
}

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
template <class F>
void take_keys(const Group& g, const Tensor& gates, F&& expert_of) {
  const int64_t experts = gates.shape()[1];
  engine::dispatch_cpu(gates, [&]<class T>(engine::Cpu) {
    for (int64_t i = 0; i < g.count; ++i) {
      const auto gate = static_cast<double>(
          gates.data<const T>()[(g.begin + i) * experts + expert_of(g.begin + i)]);
      g.key[i] = std::isnan(gate) ? -1 : gate;
    }
  });
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
void experts_choose(const Group& g, const Tensor& gates, int32_t* expert, int64_t capacity) {
  const int64_t experts = gates.shape()[1];
  if (capacity >= g.count) return;
  for (int64_t e = 0; e < experts; ++e) {
    take_keys(g, gates, [e](int64_t) { return e; });
    std::nth_element(g.order, g.order + capacity, g.order + g.count, by_key(g));
    for (int64_t i = capacity; i < g.count; ++i) {
      int32_t* row = expert + (g.begin + g.order[i]) * experts;
      *std::find(row, row + experts, static_cast<int32_t>(e)) = -1;
    }
  }
}

// Marks refused choices with -1. `counter` (E) is scratch.
void give_out_slots(const Group& g, const Tensor& chosen, const Tensor& gates, SlotRule rule,
                    int64_t experts, int64_t capacity, int32_t* expert, int32_t* counter) {
  if (rule == SlotRule::kExpertChoice) return experts_choose(g, gates, expert, capacity);
  const int64_t k = chosen.shape()[1];
  if (rule == SlotRule::kBatchPriority) {
    const int32_t* first = chosen.data<const int32_t>();
    take_keys(g, gates, [first, k](int64_t token) { return first[token * k]; });
    std::sort(g.order, g.order + g.count, by_key(g));
  } else {
    std::iota(g.order, g.order + g.count, 0);
  }
  std::fill_n(counter, experts, 0);
  drop_over_capacity(expert, g.begin, g.count, k, capacity, g.order, counter);
}

int64_t unserved_tokens(const int32_t* expert, int64_t tokens, int64_t k) {
  int64_t unserved = 0;
  for (int64_t i = 0; i < tokens; ++i) {
    unserved += std::all_of(expert + i * k, expert + (i + 1) * k, [](int32_t e) { return e < 0; });
  }
  return unserved;
}

}  // namespace

DispatchPlan make_plan(engine::Tape& tape, const Tensor& chosen, int64_t experts, int64_t capacity,
                       int64_t group_tokens, SlotRule rule, const Tensor& gates) {
  const int64_t n = chosen.shape()[0], k = chosen.shape()[1];
  engine::StepArena& arena = tape.arena();
  DispatchPlan plan;
  plan.expert_of = arena.empty({n, k}, Dtype::kI32);
  plan.offset = arena.empty({experts + 1}, Dtype::kI32);
  plan.map.slot_of = arena.empty({n, k}, Dtype::kI32);
  int32_t* expert = plan.expert_of.data<int32_t>();
  int32_t* offset = plan.offset.data<int32_t>();
  std::copy_n(chosen.data<const int32_t>(), n * k, expert);

  if (capacity > 0) {
    check(group_tokens > 0 && n % group_tokens == 0, ErrorKind::kValue, "routing groups of ",
          group_tokens, " tokens do not divide the batch's ", n);
    check(rule == SlotRule::kTokenOrder || gates.shape() == engine::Shape{n, experts},
          ErrorKind::kShape, "routing: expected gates of ", n, " tokens and ", experts,
          " experts, got ", gates.shape());
    check(rule != SlotRule::kExpertChoice || k == experts, ErrorKind::kShape,
          "routing: experts choose among all tokens, but ", k, " of ", experts, " were named");
    const Tensor order = arena.empty({group_tokens}, Dtype::kI32);
    const Tensor key = arena.empty({group_tokens}, Dtype::kF64);
    for (int64_t begin = 0; begin < n; begin += group_tokens) {
      const Group group{begin, group_tokens, order.data<int32_t>(), key.data<double>()};
      // offset serves as the counters
      give_out_slots(group, chosen, gates, rule, experts, capacity, expert, offset);
    }
  }

  // Counting sort on (expert, token): count, prefix sums, place in token order.
  std::fill_n(offset, experts + 1, 0);
  for (int64_t c = 0; c < n * k; ++c) {
    if (expert[c] >= 0) ++offset[expert[c] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) offset[e + 1] += offset[e];
  const int64_t slots = offset[experts];
  plan.dropped = rule == SlotRule::kExpertChoice ? unserved_tokens(expert, n, k) : n * k - slots;
  plan.map.choice_of_slot = arena.empty({slots}, Dtype::kI32);
  int32_t* choice_of_slot = plan.map.choice_of_slot.data<int32_t>();
  int32_t* slot_of = plan.map.slot_of.data<int32_t>();
  for (int64_t c = 0; c < n * k; ++c) {
    slot_of[c] = expert[c] < 0 ? -1 : offset[expert[c]]++;
    if (slot_of[c] >= 0) choice_of_slot[slot_of[c]] = static_cast<int32_t>(c);
  }
  // Placing moved every offset to its successor's start: shift back.
  for (int64_t e = experts; e > 0; --e) offset[e] = offset[e - 1];
  offset[0] = 0;
  return plan;
}

}  // namespace moe
