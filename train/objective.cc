#include "train/objective.h"

#include "engine/core/backend.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/pointwise.h"
#include "moe/balance_loss.h"
#include "nn/loss/gshard_loss.h"
#include "nn/loss/kl_divergence.h"
#include "nn/loss/mean_entropy.h"
#include "train/network.h"

namespace train {

using engine::Tensor;

void LossTerms::add(const LossTerms& other) {
  total += other.total;
  cross_entropy += other.cross_entropy;
  importance += other.importance;
  load += other.load;
  gshard += other.gshard;
  entropy += other.entropy;
  balance += other.balance;
  spread += other.spread;
  prc += other.prc;
  prc_diagonal += other.prc_diagonal;
  prc_off_diagonal += other.prc_off_diagonal;
  prc_pairs += other.prc_pairs;
  divergence += other.divergence;
}

namespace {

moe::ImageBalance image_balance_of(const std::string& name) {
  if (name == "switch") return moe::ImageBalance::kSwitch;
  if (name == "column-entropy") return moe::ImageBalance::kColumnEntropy;
  if (name == "variance") return moe::ImageBalance::kVariance;
  return moe::ImageBalance::kEntropy;
}

}  // namespace

Objective::Objective(const Config& config)
    : sigmoid_(config.train.loss == "sigmoid"),
      vit_(is_vit(config)),
      beta_(config.adversarial.beta),
      moe_(config.moe),
      image_moe_(config.image_moe),
      image_balance_(image_balance_of(config.image_moe.balance)),
      pairs_(config.prc),
      pairing_(pairs_.form == "none"                         ? Pairing::kNone
               : pairs_.form == "l2" || pairs_.form == "jsd" ? Pairing::kDistance
                                                             : Pairing::kPrc),
      form_(pairs_.form == "fork" ? moe::PrcForm::kFork : moe::PrcForm::kPaper),
      distance_(pairs_.form == "l2" ? nn::Distance::kL2 : nn::Distance::kJsd) {}

namespace {

// The number in a loss tensor of one element.
double number(const Tensor& x) {
  double out = 0;
  engine::dispatch_cpu(
      x, [&]<class T>(engine::Cpu) { out = static_cast<double>(*x.data<const T>()); });
  return out;
}

}  // namespace

struct Objective::Sum {
  Tensor total;
  double share;  // of the step's views that this micro-batch has; of two passes, half
  LossTerms& terms;

  // Adds weight * term, and its number to `part`.
  void include(const Tensor& term, double weight, double& part) {
    const Tensor weighted = engine::scale(term, share * weight);
    part += number(weighted);
    total = engine::add(total, weighted);
  }
};

void Objective::add_balance(const moe::Routing& r, Sum& sum) const {
  if (!vit_) return add_image_balance(r, sum);
  const int64_t group = (moe_.group_images > 0 ? moe_.group_images : r.images) * r.tokens;
  if (moe_.importance_weight > 0) {
    sum.include(moe::importance_loss(r.clean, group), moe_.importance_weight, sum.terms.importance);
  }
  if (moe_.load_weight > 0 && r.sigma > 0) {
    sum.include(moe::load_loss(r.logits, r.noisy_logits, r.top_k, r.sigma, group), moe_.load_weight,
                sum.terms.load);
  }
  if (moe_.gshard_weight > 0) {
    sum.include(nn::gshard_loss(r.gates, r.chosen, group), moe_.gshard_weight, sum.terms.gshard);
  }
  if (moe_.entropy_weight > 0) {
    sum.include(nn::mean_entropy(r.clean), moe_.entropy_weight, sum.terms.entropy);
  }
}

void Objective::add_image_balance(const moe::Routing& r, Sum& sum) const {
  if (image_moe_.balance != "none" && image_moe_.balance_weight > 0) {
    sum.include(moe::image_balance_loss(r.clean, image_balance_), image_moe_.balance_weight,
                sum.terms.balance);
  }
  if (image_moe_.spread_weight > 0) {
    sum.include(moe::expert_spread_loss(r.outputs, r.offset), image_moe_.spread_weight,
                sum.terms.spread);
  }
}

void Objective::add_pairs(nn::Forward& f, const moe::Routing& r, const Tensor& match, double layers,
                          Sum& sum) const {
  const engine::RngKey key = engine::RngKey(f.seed, engine::Purpose::kPairShuffle)
                                 .with(static_cast<uint64_t>(f.step))
                                 .with(static_cast<uint64_t>(r.layer));
  const moe::TokenPairs pairs =
      moe::make_pairs(f.tape, match, r.tokens, r.class_token, pairs_.class_token,
                      pairs_.pairs == "shuffled" ? &key : nullptr);
  sum.terms.prc_pairs = pairs.count;  // the same in every layer
  const Tensor& outputs = pairs_.router == "noisy" ? r.gates : r.clean;
  if (pairing_ == Pairing::kDistance) {
    sum.include(nn::pair_distance(outputs, pairs.left, pairs.right, pairs.count, distance_),
                pairs_.weight, sum.terms.prc);
    return;
  }
  moe::PrcStats stats;
  sum.include(moe::prc_loss(outputs, pairs, form_, pairs_.lambda_diag, pairs_.lambda_off, &stats),
              1, sum.terms.prc);
  sum.terms.prc_diagonal += sum.share * stats.diagonal / layers;
  sum.terms.prc_off_diagonal += sum.share * stats.off_diagonal / layers;
}

Tensor Objective::loss(nn::Forward& f, const moe::ModelOutput& out, const Tensor& targets,
                       const Tensor& match, int64_t batch_views, LossTerms& terms,
                       const moe::ModelOutput* second) const {
  const double views = static_cast<double>(batch_views);
  f.tape.scope("loss");
  terms = {};
  const auto kind = sigmoid_ ? engine::CrossEntropy::kSigmoid : engine::CrossEntropy::kSoftmax;
  const bool soft = targets.shape().rank() == 2;
  Sum sum{soft ? engine::soft_cross_entropy(out.logits, targets, kind, views)
               : engine::cross_entropy(out.logits, targets, kind, views),
          static_cast<double>(targets.shape()[0]) / views / (second == nullptr ? 1 : 2), terms};
  terms.cross_entropy = number(sum.total);
  for (const moe::Routing& r : out.routings) {
    add_balance(r, sum);
    if (compares_pairs()) {
      add_pairs(f, r, match, static_cast<double>(out.routings.size()), sum);
    }
  }
  if (second != nullptr) {
    for (const moe::Routing& r : second->routings) add_balance(r, sum);
    const Tensor apart = engine::scale(nn::kl_divergence(out.logits, second->logits, views), beta_);
    terms.divergence = number(apart);
    sum.total = engine::add(sum.total, apart);
  }
  terms.total = number(sum.total);
  return sum.total;
}

}  // namespace train
