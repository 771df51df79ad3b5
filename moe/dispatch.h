#pragma once

#include <cstdint>

#include "engine/core/tape.h"
#include "engine/ops/rows.h"

namespace moe {

// DispatchPlan::dropped on CUDA: count it after a download (moe::on_host, routing.h).
inline constexpr int64_t kUnknownDropped = -1;

// Which token goes where. Slots are sorted by expert, within an expert by token, so that
// every data movement of an MoE layer is a gather (engine/ops/rows.h) and the order is fixed.
// S = offset[E] on the CPU. On CUDA, where the host does not wait for that number, S is the most
// that it can be: N*K, or groups * E * capacity if that is less. Slots from offset[E] on are unused
// there and have choice_of_slot -1.
struct DispatchPlan {
  engine::Tensor expert_of;  // (N, K) i32: chosen expert, -1 = dropped by capacity
  engine::Tensor offset;     // (E+1) i32: expert e owns slots offset[e] ... offset[e+1]
  engine::RowMap map;        // choice_of_slot (S), slot_of (N, K)
  int64_t dropped = 0;       // kUnknownDropped on CUDA
};

// Slots of an expert in one group: ceil(group_tokens * top_k * factor / experts), rounded up
// to `multiple_of` (spec 2.3). Error(kValue) if that is below 1.
int64_t capacity_of(int64_t group_tokens, int64_t top_k, int64_t experts, double factor,
                    int64_t multiple_of);

// Who gets the slots of an expert that has too few of them (spec 2.3, 6).
//   kTokenOrder     all first choices in token order, then all second ones, ...; a request
//                   advances its expert's counter also where it is refused because the counter
//                   has reached the capacity
//   kBatchPriority  the same, with the tokens of each round by decreasing gate of their first
//                   choice, equal ones in token order
//   kExpertChoice   every expert takes the tokens with the largest gates for it, equal ones in
//                   token order; needs K = E
enum class SlotRule : uint8_t { kTokenOrder, kBatchPriority, kExpertChoice };

// Lays out the choices. capacity 0: dropless. Otherwise tokens are cut into groups of
// `group_tokens` and each expert has `capacity` slots in a group, given out by `rule`.
//
//   chosen  (N, K) i32, each row distinct experts in [0, experts)
//   gates   (N, E) f32 or f64 that `chosen` is the top-k of; may be undefined for kTokenOrder.
//           NaN counts as smaller than every number.
//
// Arrays live in the tape's arena. `dropped` counts refused choices, with kExpertChoice tokens
// that no expert took. Error(kValue) if group_tokens does not divide N, Error(kShape), also on CUDA
// for more than 1024 experts.
DispatchPlan make_plan(engine::Tape& tape, const engine::Tensor& chosen, int64_t experts,
                       int64_t capacity, int64_t group_tokens,
                       SlotRule rule = SlotRule::kTokenOrder, const engine::Tensor& gates = {});

// DispatchPlan::dropped of a plan whose arrays are on the CPU.
int64_t count_dropped(const engine::Tensor& expert_of, const engine::Tensor& offset,
                      bool expert_choice);

}  // namespace moe
