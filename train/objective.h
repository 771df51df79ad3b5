#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "engine/core/rng.h"
#include "moe/cnn/image_balance.h"
#include "moe/prc_loss.h"
#include "moe/vmoe.h"
#include "nn/loss/pair_distance.h"
#include "train/config.h"

namespace train {

// The terms of the loss as numbers, each with its weight applied, so that they add up to
// total. Balance losses, entropy and PRC are sums over MoE layers (spec 2.5, 4.2).
struct LossTerms {
  double total = 0, cross_entropy = 0, importance = 0, load = 0, gshard = 0, entropy = 0;
  double balance = 0, spread = 0;                 // of image_moe
  double prc = 0;                                 // or the distance that stands in its place
  double prc_diagonal = 0, prc_off_diagonal = 0;  // without lambda, mean over MoE layers
  int64_t prc_pairs = 0;                          // corresponding tokens of a layer
  double divergence = 0;                          // of TRADES
  void add(const LossTerms& other);
};

// Where the numbers of a loss's terms come from: tensors of one or more elements, on the device
// until read() fetches them all at once. Reused from step to step.
class LossNumbers {
 public:
  void clear() {
    sources_.clear();
    tensors_.clear();
    fixed_ = {};
  }
  // part += factor * element of x, for each of the parts.
  void add(const engine::Tensor& x, std::initializer_list<double LossTerms::*> parts,
           double factor = 1);
  LossTerms& fixed() { return fixed_; }  // what is known without the device
  LossTerms read();

 private:
  struct Source {
    double LossTerms::*part;
    double factor;
  };
  std::vector<Source> sources_;  // of each element
  std::vector<engine::Tensor> tensors_;
  std::vector<double> values_;
  LossTerms fixed_;
};

// Everything the loss needs to know, read from the config once.
class Objective {
 public:
  explicit Objective(const Config& config);

  // Loss (1) of one micro-batch on the output's tape:
  //   sum of the images' cross-entropy / batch_views
  //   + share * (importance_weight L_imp + load_weight L_load + gshard_weight L_gshard
  //              + entropy_weight L_ent + PRC)
  // or, of a residual network, share * (balance_weight L_bal + spread_weight L_spread),
  // with share = images of this micro-batch / batch_views: terms that are not linear in the
  // batch are those of the micro-batch, averaged. targets: labels (images) i32, or soft ones
  // (images, C) of the logits' dtype; pairs: make_pairs() of the same images, of no layers unless
  // compares_pairs().
  // With `second`, the output for the adversarial neighbours of the same images, the loss of TRADES
  // (Zhang et al. 2019): balance losses and entropy count half for each of the two passes, and
  //   + beta * sum of the images' KL(softmax(logits) || softmax(second's logits)) / batch_views
  engine::Tensor loss(nn::Forward& f, const moe::ModelOutput& out, const engine::Tensor& targets,
                      std::span<const moe::TokenPairs> pairs, int64_t batch_views,
                      LossNumbers& numbers, const moe::ModelOutput* second = nullptr) const;
  // The same from correspondences (pairs, patches), with the numbers read at once.
  engine::Tensor loss(nn::Forward& f, const moe::ModelOutput& out, const engine::Tensor& targets,
                      const engine::Tensor& match, int64_t batch_views, LossTerms& terms,
                      const moe::ModelOutput* second = nullptr) const;

  bool compares_pairs() const { return pairing_ != Pairing::kNone; }

  // Whose tokens are compared: an MoE layer's number and its images' tokens.
  struct PairPlace {
    int64_t layer, tokens;
    bool class_token;
  };
  // `pairs` for these layers of images with correspondences `match` (pairs, patches) on the host,
  // in the arena; one and the same for all layers unless they are shuffled (a control), whose
  // randomness is that of the seed, the step and the layer. Empty unless compares_pairs().
  void make_pairs(engine::StepArena& arena, const engine::Tensor& match,
                  std::span<const PairPlace> places, uint64_t seed, int64_t step,
                  std::vector<moe::TokenPairs>& pairs) const;

 private:
  enum class Pairing : uint8_t { kNone, kPrc, kDistance };
  struct Sum;  // the loss of a micro-batch so far
  void add_balance(const moe::Routing& r, Sum& sum) const;
  void add_image_balance(const moe::Routing& r, Sum& sum) const;
  void add_pairs(const moe::Routing& r, const moe::TokenPairs& pairs, double layers,
                 Sum& sum) const;

  bool sigmoid_, vit_;
  double beta_;
  Config::Moe moe_;
  Config::ImageMoe image_moe_;
  moe::ImageBalance image_balance_;
  Config::Prc pairs_;
  Pairing pairing_;
  moe::PrcForm form_;
  nn::Distance distance_;
};

}  // namespace train
