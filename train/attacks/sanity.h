#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/attacks/attack.h"

namespace train {

// Signs that the figures of an attack flatter a model: it may have done all it was told and found
// little only because it could not see the way (gradient masking, Athalye et al. 2018).

// Above this share of the images that were right at first a sign becomes a flag. A share below it
// moves accuracy by less than a percentage point, less than its standard error on some thousand
// images; and none of these signs is expected on any image at all: a gradient of exactly zero needs
// logits that saturate f32, about 104 apart, and an attack of many steps should break what one of
// fewer does.
inline constexpr double kFlagShare = 0.01;

// Whether what attack `a` breaks in the ball of attack `b` speaks against b: b takes many steps and
// a is noise or FGSM, or both are of one kind and a takes fewer steps times restarts.
bool weaker(const AttackPlan& a, const AttackPlan& b);

// Those of the clean images that the model gets right whose gradient of an attack's loss is zero in
// every pixel. kTargetedDlr: towards the second class.
int64_t count_zero_gradients(AttackedModel& model, const Victims& clean, AttackLoss loss);

// Adds to missed and missed_by_weaker of each attack; attacked[a] are the images after plans[a].
void count_missed(const Victims& clean, std::span<const Victims> attacked,
                  std::span<const AttackPlan> plans, std::span<AttackFigures> figures);

struct AttackFlag {
  std::string name, text;  // for programs; what was seen, what it means and what to do
};
// "random_forward": logits_changed is not 0. "zero_gradients", "weaker_attack_wins": of an attack,
// zero_gradients or missed_by_weaker is above kFlagShare of the images that were right. At most one
// of each name; its text lists the attacks.
std::vector<AttackFlag> attack_flags(const AttackResult& result);

}  // namespace train
