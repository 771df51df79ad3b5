#pragma once

#include "engine/core/backend.h"
#include "moe/dispatch.h"

// Raw kernels of make_plan().
namespace moe::kernels {

struct PlanSize {
  int64_t tokens, choices;  // N, K
  int64_t experts;
  int64_t capacity, group_tokens;
  int64_t groups() const { return tokens / group_tokens; }
};
inline constexpr int64_t kMaxExperts = 1024;  // that a plan on CUDA can have

// expert_of (N, K): `chosen`, with the choices that `rule` refuses marked -1. gates may be null for
// kTokenOrder.
template <class T>
void give_out_slots(engine::Cpu, const int32_t* chosen, const T* gates, const PlanSize& size,
                    SlotRule rule, int32_t* expert_of);
template <class T>
void give_out_slots(engine::Cuda, const int32_t* chosen, const T* gates, const PlanSize& size,
                    SlotRule rule, int32_t* expert_of);

// Counting sort of `count` choices on (expert, number): offset (E+1) and slot_of (count), -1 for
// those whose expert is -1.
void find_slots(engine::Cpu, const int32_t* expert_of, int64_t count, int64_t experts,
                int32_t* offset, int32_t* slot_of);
void find_slots(engine::Cuda, const int32_t* expert_of, int64_t count, int64_t experts,
                int32_t* offset, int32_t* slot_of);
// choice_of_slot (slots): the inverse of slot_of; -1 from slot *used on.
void invert_slots(engine::Cpu, const int32_t* slot_of, int64_t count, const int32_t* used,
                  int64_t slots, int32_t* choice_of_slot);
void invert_slots(engine::Cuda, const int32_t* slot_of, int64_t count, const int32_t* used,
                  int64_t slots, int32_t* choice_of_slot);

void copy(engine::Cpu, const int32_t* from, int64_t count, int32_t* to);
void copy(engine::Cuda, const int32_t* from, int64_t count, int32_t* to);

}  // namespace moe::kernels
