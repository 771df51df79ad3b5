#include "train/attacks/sanity.h"

#include <algorithm>

namespace train {
namespace {

// Passes forward and back that an attack may take, without its targets.
int64_t passes(const AttackPlan& plan) { return plan.pgd.steps * plan.pgd.restarts; }

bool many_steps(AttackPlan::Kind kind) {
  return kind != AttackPlan::Kind::kNoise && kind != AttackPlan::Kind::kFgsm;
}

// The class with the largest logit but for the label's.
int32_t runner_up(const float* logits, int64_t classes, int32_t label) {
  int32_t best = label == 0 ? 1 : 0;
  for (int32_t c = 0; c < static_cast<int32_t>(classes); ++c) {
    if (c != label && logits[c] > logits[best]) best = c;
  }
  return best;
}

// "12 of 30 (pgd), 11 of 30 (apgd)" of the attacks whose count is above the share; empty: none.
std::string too_many(const AttackResult& result, int64_t AttackFigures::*count) {
  std::string text;
  for (const AttackFigures& f : result.attacks) {
    if (static_cast<double>(f.*count) <= kFlagShare * static_cast<double>(result.right)) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(f.*count) + " of " +
            std::to_string(result.right) + " (" + f.name + ")";
  }
  return text;
}

}  // namespace

bool weaker(const AttackPlan& a, const AttackPlan& b) {
  if (a.kind == b.kind) return passes(a) < passes(b);
  return !many_steps(a.kind) && many_steps(b.kind);
}

int64_t count_zero_gradients(AttackedModel& model, const Victims& clean, AttackLoss loss) {
  std::vector<float> x, gradient;
  std::vector<int32_t> labels, targets;
  for (int64_t i = 0; i < clean.size(); ++i) {
    if (clean.broken[static_cast<size_t>(i)] != 0) continue;
    labels.push_back(clean.labels[static_cast<size_t>(i)]);
    x.insert(x.end(), clean.clean_of(i).begin(), clean.clean_of(i).end());
  }
  if (labels.empty()) return 0;
  if (loss == AttackLoss::kTargetedDlr) {
    const std::span<const float> logits = model.logits(x);
    for (size_t k = 0; k < labels.size(); ++k) {
      targets.push_back(runner_up(logits.data() + static_cast<int64_t>(k) * model.classes(),
                                  model.classes(), labels[k]));
    }
  }
  gradient.resize(x.size());
  model.logits_and_gradient(x, labels, gradient, loss, targets);
  int64_t count = 0;
  const auto pixels = static_cast<size_t>(clean.pixels());
  for (size_t k = 0; k < labels.size(); ++k) {
    const auto slopes = std::span(gradient).subspan(k * pixels, pixels);
    count += std::ranges::all_of(slopes, [](float g) { return g == 0; }) ? 1 : 0;
  }
  return count;
}

void count_missed(const Victims& clean, std::span<const Victims> attacked,
                  std::span<const AttackPlan> plans, std::span<AttackFigures> figures) {
  for (size_t b = 0; b < plans.size(); ++b) {
    for (int64_t i = 0; i < clean.size(); ++i) {
      if (attacked[b].broken[static_cast<size_t>(i)] != 0) continue;
      bool missed = false, by_weaker = false;
      for (size_t a = 0; a < plans.size(); ++a) {
        if (a == b || attacked[a].broken[static_cast<size_t>(i)] == 0) continue;
        if (!plans[b].pgd.ball.holds(clean.clean_of(i), attacked[a].adversarial_of(i))) continue;
        missed = true;
        by_weaker = by_weaker || weaker(plans[a], plans[b]);
      }
      figures[b].missed += missed ? 1 : 0;
      figures[b].missed_by_weaker += by_weaker ? 1 : 0;
    }
  }
}

std::vector<AttackFlag> attack_flags(const AttackResult& result) {
  std::vector<AttackFlag> flags;
  if (result.logits_changed > 0) {
    flags.push_back({"random_forward",
                     "two passes over the same images gave " +
                         std::to_string(result.logits_changed) + " of " + std::to_string(result.n) +
                         " other logits: robust accuracy is luck in part; attack the model without "
                         "its randomness"});
  }
  const std::string zero = too_many(result, &AttackFigures::zero_gradients);
  if (!zero.empty()) {
    flags.push_back({"zero_gradients",
                     "the gradient at the clean image is exactly zero in " + zero +
                         ": the attack is blind there, not the model robust; try apgd-dlr, whose "
                         "loss does not saturate"});
  }
  const std::string beaten = too_many(result, &AttackFigures::missed_by_weaker);
  if (!beaten.empty()) {
    flags.push_back({"weaker_attack_wins",
                     "a weaker attack found adversarial images in the ball that a stronger one did "
                     "not, of " +
                         beaten + ": raise --steps, --step or --restarts"});
  }
  return flags;
}

}  // namespace train
