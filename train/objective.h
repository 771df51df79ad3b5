#pragma once

#include "engine/core/rng.h"
#include "moe/prc_loss.h"
#include "moe/vmoe.h"
#include "train/config.h"

namespace train {

// The terms of the loss as numbers, each with its weight applied, so that they add up to
// total. Balance losses and PRC are sums over MoE layers (spec 2.5, 4.2).
struct LossTerms {
  double total = 0, cross_entropy = 0, importance = 0, load = 0, prc = 0;
  double prc_diagonal = 0, prc_off_diagonal = 0;  // without lambda, mean over MoE layers
  int64_t prc_pairs = 0;                          // corresponding tokens of a layer
  void add(const LossTerms& other);
};

// Everything the loss needs to know, read from the config once.
struct Objective {
  explicit Objective(const Config& config);

  // Loss (1) of one micro-batch on the output's tape:
  //   sum of the images' cross-entropy / batch_views
  //   + share * (importance_weight L_imp + load_weight L_load + PRC)
  // with share = images of this micro-batch / batch_views: terms that are not linear in the
  // batch are those of the micro-batch, averaged. labels (images); match (pairs, patches) or
  // undefined without PRC. key: randomness of shuffled pairs (a control).
  engine::Tensor loss(nn::Forward& f, const moe::VmoeOutput& out, const engine::Tensor& labels,
                      const engine::Tensor& match, int64_t batch_views, LossTerms& terms) const;

  bool sigmoid;
  double importance_weight, load_weight;
  int64_t group_images;
  moe::PrcForm prc;
  double lambda_diag, lambda_off;
  bool prc_class_token, prc_shuffled;
};

}  // namespace train
