#pragma once

#include <cstdint>

#include "engine/core/tape.h"
#include "engine/ops/rows.h"

namespace moe {

// Which token goes where. Slots are sorted by expert, within an expert by token, so that
// every data movement of an MoE layer is a gather (engine/ops/rows.h) and the order is fixed.
struct DispatchPlan {
  engine::Tensor expert_of;  // (N, K) i32: chosen expert, -1 = dropped by capacity
  engine::Tensor offset;     // (E+1) i32: expert e owns slots offset[e] ... offset[e+1]
  engine::RowMap map;        // choice_of_slot (S), slot_of (N, K)
  int64_t dropped = 0;
};

// Slots of an expert in one group: ceil(group_tokens * top_k * factor / experts), rounded up
// to `multiple_of` (spec 2.3). Error(kValue) if that is below 1.
int64_t capacity_of(int64_t group_tokens, int64_t top_k, int64_t experts, double factor,
                    int64_t multiple_of);

// Lays out the choices. capacity 0: dropless. Otherwise tokens are cut into groups of
// `group_tokens` and, within a group, all first choices are served in token order, then all
// second choices, ...; every request advances its expert's counter, also one that is refused
// because the counter has reached `capacity` (spec 2.3, vanilla order).
//
//   chosen  (N, K) i32, each row distinct experts in [0, experts)
//
// Arrays live in the tape's arena. Error(kValue) if group_tokens does not divide N.
DispatchPlan make_plan(engine::Tape& tape, const engine::Tensor& chosen, int64_t experts,
                       int64_t capacity, int64_t group_tokens);

}  // namespace moe
