#pragma once

#include "moe/moe_layer.h"

namespace moe {

// Slots of an expert for images of `tokens` tokens: tokens * capacity_factor / experts, rounded,
// halves to even. Error(kValue) if that is below 1.
int64_t soft_slots(const MoeConfig& config, int64_t tokens);

// The Soft MoE layer (spec 6): nothing is chosen, every slot of an expert works on a mixture of all
// tokens of an image, every token gets a mixture of all slots. With the parameters mu, one vector a
// slot, and a factor:
//
//   logits[t,s] = factor * unit(x_t) . unit(mu_s)  (+ noise of noise_std / E in training)
//   in_s  = sum_t softmax over tokens (logits)[t,s] x_t
//   y_t   = residual_t + sum_s softmax over slots (logits)[t,s] expert(in_s)
//
// unit(v) = v / sqrt(sum v^2 + 1e-6). Each image is mixed by itself, so no output depends on the
// batch. `factor` starts at 1, mu at LeCun normal over (experts, width), as published.
class SoftMoeLayer {
 public:
  // tokens: of an image; the number of slots, and so of parameters, follows from it.
  SoftMoeLayer(int64_t layer, int64_t width, int64_t hidden, int64_t tokens,
               const MoeConfig& config, engine::GeluForm form)
      : layer_(layer),
        width_(width),
        slots_(soft_slots(config, tokens)),
        config_(config),
        experts_(width, hidden, config, form) {}
  // As MoeLayer::forward; random.noise is (N, slots of all experts). Of `routing`, `clean` and
  // `gates` are the sums of a token's weights over the slots of each expert, without gradient,
  // `logits` their logarithms, `chosen` the top_k experts by them. Error(kShape).
  engine::Tensor forward(nn::Forward& f, const engine::Tensor& x, const engine::Tensor& residual,
                         const RoutingRandom& random, Routing& routing) const;
  void visit(nn::ParamVisitor& v);

 private:
  engine::Tensor logits(nn::Forward& f, const engine::Tensor& x, const RoutingRandom& random,
                        Routing& routing) const;

  int64_t layer_, width_, slots_;  // slots of one expert
  MoeConfig config_;
  Experts experts_;
  nn::Parameter mu_, factor_;
};

}  // namespace moe
