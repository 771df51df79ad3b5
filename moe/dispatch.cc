#include "moe/dispatch.h"

#include <algorithm>
#include <cmath>

#include "moe/dispatch_kernels.h"

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

// An upper bound of the slots that a plan uses, which the host knows without reading it.
int64_t most_slots(const kernels::PlanSize& size, SlotRule rule) {
  const int64_t choices = size.tokens * size.choices;
  if (size.capacity == 0) return choices;
  const int64_t most =
      rule == SlotRule::kExpertChoice ? std::min(size.capacity, size.group_tokens) : size.capacity;
  return std::min(choices, size.groups() * size.experts * most);
}

void give_out(const Tensor& chosen, const Tensor& gates, const kernels::PlanSize& size,
              SlotRule rule, int32_t* expert) {
  const int64_t n = size.tokens, k = size.choices, experts = size.experts;
  const auto* in = chosen.data<const int32_t>();
  check(size.group_tokens > 0 && n % size.group_tokens == 0, ErrorKind::kValue,
        "routing groups of ", size.group_tokens, " tokens do not divide the batch's ", n);
  check(rule == SlotRule::kTokenOrder || gates.shape() == engine::Shape{n, experts},
        ErrorKind::kShape, "routing: expected gates of ", n, " tokens and ", experts,
        " experts, got ", gates.shape());
  check(rule != SlotRule::kExpertChoice || k == experts, ErrorKind::kShape,
        "routing: experts choose among all tokens, but ", k, " of ", experts, " were named");
  if (rule == SlotRule::kTokenOrder) {
    engine::dispatch_device(chosen.device(), [&](auto backend) {
      kernels::give_out_slots<float>(backend, in, nullptr, size, rule, expert);
    });
  } else {
    engine::dispatch(gates, [&]<class T>(auto backend) {
      kernels::give_out_slots(backend, in, gates.data<const T>(), size, rule, expert);
    });
  }
}

}  // namespace

int64_t count_dropped(const Tensor& expert_of, const Tensor& offset, bool expert_choice) {
  const int64_t k = expert_of.shape()[1];
  const auto* expert = expert_of.data<const int32_t>();
  if (!expert_choice) {
    return expert_of.numel() - offset.data<const int32_t>()[offset.numel() - 1];
  }
  int64_t unserved = 0;
  for (const int32_t* row = expert; row < expert + expert_of.numel(); row += k) {
    unserved += std::all_of(row, row + k, [](int32_t e) { return e < 0; });
  }
  return unserved;
}

DispatchPlan make_plan(engine::Tape& tape, const Tensor& chosen, int64_t experts, int64_t capacity,
                       int64_t group_tokens, SlotRule rule, const Tensor& gates) {
  const int64_t n = chosen.shape()[0], k = chosen.shape()[1];
  const kernels::PlanSize size{n, k, experts, capacity, group_tokens};
  const bool host = chosen.device() == engine::Device::kCpu;
  check(host || experts <= kernels::kMaxExperts, ErrorKind::kShape, "routing on a GPU is for ",
        kernels::kMaxExperts, " experts at most, got ", experts);
  engine::StepArena& arena = tape.arena();
  DispatchPlan plan;
  plan.expert_of = arena.empty({n, k}, Dtype::kI32);
  plan.offset = arena.empty({experts + 1}, Dtype::kI32);
  plan.map.slot_of = arena.empty({n, k}, Dtype::kI32);
  int32_t* expert = plan.expert_of.data<int32_t>();
  int32_t* offset = plan.offset.data<int32_t>();
  int32_t* slot_of = plan.map.slot_of.data<int32_t>();
  if (capacity > 0) give_out(chosen, gates, size, rule, expert);
  engine::dispatch_device(chosen.device(), [&](auto backend) {
    if (capacity == 0) kernels::copy(backend, chosen.data<const int32_t>(), n * k, expert);
    kernels::find_slots(backend, expert, n * k, experts, offset, slot_of);
    const int64_t slots = host ? offset[experts] : most_slots(size, rule);
    plan.map.choice_of_slot = arena.empty({slots}, Dtype::kI32);
    kernels::invert_slots(backend, slot_of, n * k, offset + experts, slots,
                          plan.map.choice_of_slot.template data<int32_t>());
  });
  plan.dropped = host ? count_dropped(plan.expert_of, plan.offset, rule == SlotRule::kExpertChoice)
                      : kUnknownDropped;
  return plan;
}

}  // namespace moe
