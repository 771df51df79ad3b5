#include "moe/dispatch.h"

#include <algorithm>
#include <cmath>

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

// Marks refused choices with -1.
void drop_over_capacity(int32_t* expert, int64_t begin, int64_t end, int64_t k, int64_t capacity,
                        int32_t* counter) {
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t i = begin; i < end; ++i) {
      int32_t& e = expert[i * k + j];
      if (counter[e]++ >= capacity) e = -1;
    }
  }
}

}  // namespace

DispatchPlan make_plan(engine::Tape& tape, const Tensor& chosen, int64_t experts, int64_t capacity,
                       int64_t group_tokens) {
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
    for (int64_t begin = 0; begin < n; begin += group_tokens) {
      std::fill_n(offset, experts, 0);  // offset serves as the counters
      drop_over_capacity(expert, begin, begin + group_tokens, k, capacity, offset);
    }
  }

  // Counting sort on (expert, token): count, prefix sums, place in token order.
  std::fill_n(offset, experts + 1, 0);
  for (int64_t c = 0; c < n * k; ++c) {
    if (expert[c] >= 0) ++offset[expert[c] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) offset[e + 1] += offset[e];
  const int64_t slots = offset[experts];
  plan.dropped = n * k - slots;
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
