#pragma once

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/attacks/apgd.h"
#include "train/attacks/pgd.h"
#include "train/attacks/routing_under_attack.h"
#include "train/config.h"
#include "train/metrics.h"
#include "train/network.h"

namespace train {

// One attack of a list; names as `robustmoe attack --attack` takes them.
struct AttackPlan {
  enum class Kind : uint8_t { kNoise, kFgsm, kPgd, kApgd, kApgdDlr, kApgdTargeted };
  Kind kind = Kind::kPgd;
  PgdOptions pgd;      // kFgsm: one step of eps from the clean image
  double sigma = 0.2;  // kNoise; its ball is all of [0, 1]

  std::string name() const;
};

// "noise", "fgsm", "pgd", "apgd" (with the classification loss), "apgd-dlr" or "apgd-t" (targeted,
// nine targets), with these options; APGD finds its own steps' length. Error(kValue) for another
// name, with the list.
AttackPlan plan_attack(const std::string& name, const PgdOptions& options, double sigma);

// The images of all victims, in the order of the data set: kept on request.
struct AttackImages {
  std::vector<float> clean;     // (n, pixels), in [0, 1]
  std::vector<int32_t> labels;  // (n)
  std::vector<uint8_t> right;   // (n): right without an attack
  struct Attacked {
    std::vector<float> adversarial;  // (n, pixels); of those wrong anyway the clean image
    std::vector<uint8_t> broken;     // (n)
  };
  std::vector<Attacked> attacks;  // one a plan
};

struct AttackFigures {
  std::string name;
  int64_t robust = 0;  // images that were right and stayed so
  // Over the images that were right at first: |adversarial - clean|, mean and largest, in both
  // norms.
  double linf_mean = 0, linf_largest = 0, l2_mean = 0, l2_largest = 0;
  // Signs that it saw too little (train/attacks/sanity.h), of the images that were right at first:
  // those whose gradient of this attack's loss is zero in every pixel, before any step; those that
  // it left standing while another attack of the list broke them within this one's ball, and of
  // these those that a weaker one broke. kNoise has no gradient: 0.
  int64_t zero_gradients = 0, missed = 0, missed_by_weaker = 0;
  RoutingChanges routing;  // of models that choose experts
};

struct AttackResult {
  int64_t n = 0, right = 0;  // images, and those the model gets right without an attack
  bool stopped = false;      // n are not all, since it was told to stop
  int64_t worst_case = 0;    // those that no attack of the list broke
  // Images whose logits a second pass over the same batch changed: the model draws random numbers.
  int64_t logits_changed = 0;
  std::vector<AttackFigures> attacks;
  // Of models that choose experts: names of the MoE layers, and the sum over images that were right
  // at first of the routers' share of the gradient (train/attacks/routing_under_attack.h).
  std::vector<std::string> moe_layers;
  double router_gradient_share = 0;
};

class AttackProgress;

struct AttackOptions {
  AttackImages* images = nullptr;      // where to keep them all
  AttackProgress* progress = nullptr;  // continued from, and saved to after every batch
  // Where a signal handler sets it, the attack ends after the batch at hand.
  const volatile std::sig_atomic_t* stop = nullptr;
};

// Attacks every image of the data set (config.eval.limit of them, or all), config.eval.batch at a
// time, with each plan. Images the model gets wrong anyway stay as they are. Each attack's claims
// are checked on the images themselves, in a pass of their own: within the ball, within [0, 1],
// broken ones misclassified, others not (but where two passes give different logits, or predictions
// depend on neighbours, so that nobody can say); Error(kInternal) where not. The same bits for any
// number of threads and any batch, unless predictions depend on neighbours, and where it was
// continued from progress.
AttackResult attack_model(const Network& network, const Config& config,
                          const data::Dataset& dataset, const std::vector<AttackPlan>& plans,
                          const AttackOptions& options = {});

// `head`, then n, clean_accuracy, robust_accuracy (of the worst case over the list), each with its
// standard error sqrt(p (1 - p) / n), logits_changed, flags (names, train/attacks/sanity.h), and
// per_attack: name, robust_accuracy, the distances and counts of images; zero_gradients is null for
// noise. Of a model that chooses experts also router_gradient_share, a mean, and in per_attack
// frozen_routing_accuracy with its standard error, and routing: layer, change and flips, means.
std::string attack_json(const AttackResult& result, const Fields& head);
// The same for a person.
std::string attack_text(const AttackResult& result);

}  // namespace train
