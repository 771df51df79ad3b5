#include "train/objective.h"

#include "engine/core/backend.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/pointwise.h"
#include "moe/balance_loss.h"

namespace train {

using engine::Tensor;

void LossTerms::add(const LossTerms& other) {
  total += other.total;
  cross_entropy += other.cross_entropy;
  importance += other.importance;
  load += other.load;
  prc += other.prc;
  prc_diagonal += other.prc_diagonal;
  prc_off_diagonal += other.prc_off_diagonal;
  prc_pairs += other.prc_pairs;
}

Objective::Objective(const Config& config)
    : sigmoid(config.train.loss == "sigmoid"),
      importance_weight(config.moe.importance_weight),
      load_weight(config.moe.load_weight),
      group_images(config.moe.group_images),
      prc(config.prc.form == "paper"  ? moe::PrcForm::kPaper
          : config.prc.form == "fork" ? moe::PrcForm::kFork
                                      : moe::PrcForm::kNone),
      lambda_diag(config.prc.lambda_diag),
      lambda_off(config.prc.lambda_off),
      prc_class_token(config.prc.class_token),
      prc_shuffled(config.prc.pairs == "shuffled") {}

namespace {

// The number in a loss tensor of one element.
double number(const Tensor& x) {
  double out = 0;
  engine::dispatch_cpu(
      x, [&]<class T>(engine::Cpu) { out = static_cast<double>(*x.data<const T>()); });
  return out;
}

}  // namespace

Tensor Objective::loss(nn::Forward& f, const moe::VmoeOutput& out, const Tensor& labels,
                       const Tensor& match, int64_t batch_views, LossTerms& terms) const {
  const double views = static_cast<double>(batch_views);
  f.tape.scope("loss");
  Tensor total = engine::cross_entropy(
      out.logits, labels, sigmoid ? engine::CrossEntropy::kSigmoid : engine::CrossEntropy::kSoftmax,
      views);
  terms = {};
  terms.cross_entropy = number(total);
  const double share = static_cast<double>(labels.shape()[0]) / views;
  const auto include = [&](const Tensor& term, double weight, double& sum) {
    const Tensor weighted = engine::scale(term, share * weight);
    sum += number(weighted);
    total = engine::add(total, weighted);
  };
  for (const moe::Routing& r : out.routings) {
    const int64_t group = (group_images > 0 ? group_images : r.images) * r.tokens;
    if (importance_weight > 0) {
      include(moe::importance_loss(r.clean, group), importance_weight, terms.importance);
    }
    if (load_weight > 0 && r.sigma > 0) {
      include(moe::load_loss(r.logits, r.noisy_logits, r.top_k, r.sigma, group), load_weight,
              terms.load);
    }
    if (prc == moe::PrcForm::kNone) continue;
    const engine::RngKey key = engine::RngKey(f.seed, engine::Purpose::kPairShuffle)
                                   .with(static_cast<uint64_t>(f.step))
                                   .with(static_cast<uint64_t>(r.layer));
    const moe::TokenPairs pairs = moe::make_pairs(f.tape, match, r.tokens, r.class_token,
                                                  prc_class_token, prc_shuffled ? &key : nullptr);
    moe::PrcStats stats;
    include(moe::prc_loss(r.clean, pairs, prc, lambda_diag, lambda_off, &stats), 1, terms.prc);
    const double layers = static_cast<double>(out.routings.size());
    terms.prc_diagonal += share * stats.diagonal / layers;
    terms.prc_off_diagonal += share * stats.off_diagonal / layers;
    terms.prc_pairs = pairs.count;  // the same in every layer
  }
  terms.total = number(total);
  return total;
}

}  // namespace train
