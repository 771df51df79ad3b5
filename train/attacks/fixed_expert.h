#pragma once

#include <string>
#include <vector>

#include "train/attacks/attack.h"
#include "train/evaluate.h"

namespace train {

// One way to run a model: with one expert of a layer for everybody, or as it is.
struct FixedExpertRow {
  int64_t expert = -1;  // -1: routed
  Evaluation clean;
  AttackResult attacked;  // of that very model; no attacks: empty
};

// Place of a layer among the MoE layers by its name ("layer4.1", "block 5", or "5" for that).
// Error(kValue) with the list where there is none of that name.
int64_t find_moe_layer(const Network& network, const std::string& name);

// The model with each expert of that MoE layer alone, unweighted, other layers routing as ever, and
// then as it is; clean and under each attack, which sees the model it attacks (spec
// robust-sparse-moes 4.1). Error(kValue) for a model that chooses no experts.
std::vector<FixedExpertRow> evaluate_fixed_experts(const Network& network, const Config& config,
                                                   const data::Dataset& dataset, int64_t layer,
                                                   const std::vector<AttackPlan>& plans);

// For a person, a line a row and one a flag (train/attacks/sanity.h); and "fixed_expert": [...] for
// JSON, where of an attack that is named twice the second is "NAME.2".
std::string fixed_expert_text(const std::vector<FixedExpertRow>& rows);
std::string fixed_expert_json(const std::vector<FixedExpertRow>& rows);

}  // namespace train
