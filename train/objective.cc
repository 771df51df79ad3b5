#include "train/objective.h"

#include "engine/ops/cross_entropy.h"
#include "engine/ops/numbers.h"
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

Tensor pair_distance_of(const Tensor& outputs, const moe::TokenPairs& pairs, nn::Distance kind) {
  const bool on_host = outputs.device() == engine::Device::kCpu;
  return nn::pair_distance(outputs, pairs.left, pairs.right,
                           on_host ? pairs.count : pairs.left.numel(), kind,
                           on_host ? Tensor{} : pairs.number);
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

void LossNumbers::add(const Tensor& x, std::initializer_list<double LossTerms::*> parts,
                      double factor) {
  tensors_.push_back(x);
  for (double LossTerms::*const part : parts) sources_.push_back({part, factor});
}

LossTerms LossNumbers::read() {
  values_.resize(sources_.size());
  engine::read_numbers(tensors_, values_);
  LossTerms terms = fixed_;
  for (size_t i = 0; i < values_.size(); ++i) {
    terms.*sources_[i].part += sources_[i].factor * values_[i];
  }
  return terms;
}

struct Objective::Sum {
  Tensor total;
  double share;  // of the step's views that this micro-batch has; of two passes, half
  LossNumbers& numbers;

  // Adds weight * term, and its number to `part`.
  void include(const Tensor& term, double weight, double LossTerms::*part) {
    const Tensor weighted = engine::scale(term, share * weight);
    numbers.add(weighted, {part});
    total = engine::add(total, weighted);
  }
};

void Objective::add_balance(const moe::Routing& r, Sum& sum) const {
  if (!vit_) return add_image_balance(r, sum);
  const int64_t group = (moe_.group_images > 0 ? moe_.group_images : r.images) * r.tokens;
  if (moe_.importance_weight > 0) {
    sum.include(moe::importance_loss(r.clean, group), moe_.importance_weight,
                &LossTerms::importance);
  }
  if (moe_.load_weight > 0 && r.sigma > 0) {
    sum.include(moe::load_loss(r.logits, r.noisy_logits, r.top_k, r.sigma, group), moe_.load_weight,
                &LossTerms::load);
  }
  if (moe_.gshard_weight > 0) {
    sum.include(nn::gshard_loss(r.gates, r.chosen, group), moe_.gshard_weight, &LossTerms::gshard);
  }
  if (moe_.entropy_weight > 0) {
    sum.include(nn::mean_entropy(r.clean), moe_.entropy_weight, &LossTerms::entropy);
  }
}

void Objective::add_image_balance(const moe::Routing& r, Sum& sum) const {
  if (image_moe_.balance != "none" && image_moe_.balance_weight > 0) {
    sum.include(moe::image_balance_loss(r.clean, image_balance_), image_moe_.balance_weight,
                &LossTerms::balance);
  }
  if (image_moe_.spread_weight > 0) {
    sum.include(moe::expert_spread_loss(r.outputs, r.offset), image_moe_.spread_weight,
                &LossTerms::spread);
  }
}

void Objective::make_pairs(engine::StepArena& arena, const Tensor& match,
                           std::span<const PairPlace> places, uint64_t seed, int64_t step,
                           std::vector<moe::TokenPairs>& pairs) const {
  pairs.clear();
  if (!compares_pairs()) return;
  const bool shuffled = pairs_.pairs == "shuffled";
  for (const PairPlace& place : places) {
    if (!shuffled && !pairs.empty()) {
      pairs.push_back(pairs[0]);
      continue;
    }
    const engine::RngKey key = engine::RngKey(seed, engine::Purpose::kPairShuffle)
                                   .with(static_cast<uint64_t>(step))
                                   .with(static_cast<uint64_t>(place.layer));
    pairs.push_back(moe::make_pairs(arena, match, place.tokens, place.class_token,
                                    pairs_.class_token, shuffled ? &key : nullptr));
  }
}

void Objective::add_pairs(const moe::Routing& r, const moe::TokenPairs& pairs, double layers,
                          Sum& sum) const {
  sum.numbers.fixed().prc_pairs = pairs.count;  // the same in every layer
  const Tensor& outputs = pairs_.router == "noisy" ? r.gates : r.clean;
  if (pairing_ == Pairing::kDistance) {
    sum.include(pair_distance_of(outputs, pairs, distance_), pairs_.weight, &LossTerms::prc);
    return;
  }
  moe::PrcStats stats;
  sum.include(moe::prc_loss(outputs, pairs, form_, pairs_.lambda_diag, pairs_.lambda_off, &stats),
              1, &LossTerms::prc);
  sum.numbers.add(stats.terms, {&LossTerms::prc_diagonal, &LossTerms::prc_off_diagonal},
                  sum.share / layers);
}

Tensor Objective::loss(nn::Forward& f, const moe::ModelOutput& out, const Tensor& targets,
                       std::span<const moe::TokenPairs> pairs, int64_t batch_views,
                       LossNumbers& numbers, const moe::ModelOutput* second) const {
  const double views = static_cast<double>(batch_views);
  f.tape.scope("loss");
  numbers.clear();
  const auto kind = sigmoid_ ? engine::CrossEntropy::kSigmoid : engine::CrossEntropy::kSoftmax;
  const bool soft = targets.shape().rank() == 2;
  Sum sum{soft ? engine::soft_cross_entropy(out.logits, targets, kind, views)
               : engine::cross_entropy(out.logits, targets, kind, views),
          static_cast<double>(targets.shape()[0]) / views / (second == nullptr ? 1 : 2), numbers};
  numbers.add(sum.total, {&LossTerms::cross_entropy});
  engine::check(!compares_pairs() || pairs.size() == out.routings.size(), engine::ErrorKind::kShape,
                "loss: pairs of ", pairs.size(), " layers, expected ", out.routings.size());
  for (size_t l = 0; l < out.routings.size(); ++l) {
    const moe::Routing& r = out.routings[l];
    add_balance(r, sum);
    if (compares_pairs()) add_pairs(r, pairs[l], static_cast<double>(pairs.size()), sum);
  }
  if (second != nullptr) {
    for (const moe::Routing& r : second->routings) add_balance(r, sum);
    const Tensor apart = engine::scale(nn::kl_divergence(out.logits, second->logits, views), beta_);
    numbers.add(apart, {&LossTerms::divergence});
    sum.total = engine::add(sum.total, apart);
  }
  numbers.add(sum.total, {&LossTerms::total});
  return sum.total;
}

Tensor Objective::loss(nn::Forward& f, const moe::ModelOutput& out, const Tensor& targets,
                       const Tensor& match, int64_t batch_views, LossTerms& terms,
                       const moe::ModelOutput* second) const {
  LossNumbers numbers;
  std::vector<PairPlace> places;
  for (const moe::Routing& r : out.routings) places.push_back({r.layer, r.tokens, r.class_token});
  std::vector<moe::TokenPairs> pairs;
  make_pairs(f.tape.arena(), match, places, f.seed, f.step, pairs);
  const Tensor total = loss(f, out, targets, pairs, batch_views, numbers, second);
  terms = numbers.read();
  return total;
}

}  // namespace train
