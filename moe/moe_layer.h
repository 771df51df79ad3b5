#pragma once

#include <span>

#include "moe/dispatch.h"
#include "moe/routing.h"
#include "nn/layers.h"

namespace moe {

enum class Dispatch : uint8_t { kDropless, kCapacity };
// kTokens: a token is sent to the experts it prefers. kExperts: an expert takes the tokens that
// prefer it most, as many as its capacity, so that a token may get any number of experts. kSoft:
// nobody chooses (moe/soft_moe.h). (spec 6)
enum class Chooser : uint8_t { kTokens, kExperts, kSoft };
// What an element of the dropout mask inside an expert belongs to. kToken: to a token and its
// choice. kSlot: to a slot of the expert, the same for all experts, as the published code draws
// it; another for each micro-batch.
enum class DropoutMask : uint8_t { kToken, kSlot };

// Options of every MoE layer of a model (spec section 2).
struct MoeConfig {
  int64_t experts = 8, top_k = 2;
  int64_t eval_top_k = 0;  // K in evaluation; 0 = top_k
  // kExperts: an expert takes ceil(tokens * capacity_factor / experts) tokens of a group, rounded
  // up as any capacity; top_k and dispatch play no part. In evaluation with an
  // eval_capacity_factor of 0 the groups are single images, so that no prediction depends on its
  // neighbours. kSoft: moe/soft_moe.h; top_k only says how many experts are reported.
  Chooser chooser = Chooser::kTokens;
  double noise_std = 1;  // router noise in training: sigma = noise_std / experts
  Dispatch dispatch = Dispatch::kDropless;
  double capacity_factor = 1.05;    // kCapacity only, in training
  double eval_capacity_factor = 0;  // kCapacity only, in evaluation; 0 = dropless there
  int64_t capacity_multiple_of = 4;
  int64_t group_images = 0;     // images of a routing group; 0 = the whole batch
  bool batch_priority = false;  // kCapacity only: tokens with the largest gates go first
  // Tokens on their way into the experts, and what those return, are rounded to bf16 (spec 2.4).
  bool bf16_dispatch = false;
  bool identical_experts = false;  // all experts start from the same numbers
  double expert_dropout = 0;       // after GELU and after the second product, in training
  DropoutMask dropout_mask = DropoutMask::kToken;
  // Error(kValue) for sizes that make no sense.
  void check() const;
  // Choices of a token: K, or E where experts choose.
  int64_t choices(bool train) const {
    if (chooser == Chooser::kExperts) return experts;
    return !train && eval_top_k > 0 ? eval_top_k : top_k;
  }
  // Whether a prediction depends on the other images of its batch.
  bool mixes_images_at_evaluation() const {
    return eval_capacity_factor > 0 &&
           (dispatch == Dispatch::kCapacity || chooser == Chooser::kExperts);
  }
};

// Random numbers a caller brings instead of the layer's own: tests and golden values.
struct RoutingRandom {
  engine::Tensor noise;           // (N, E) standard normal, same dtype as the logits
  engine::Tensor hidden_dropout;  // (N*K, mlp) multipliers in the order (token, choice)
  engine::Tensor output_dropout;  // (N*K, width)
};

// Noise of standard deviation r.sigma for router logits, whose rows belong to r.images images, on
// the tape: of `random`, or a pure function of (seed, step, layer, sample, element).
// Error(kValue) without sample_ids.
engine::Tensor router_noise(nn::Forward& f, const engine::Tensor& logits,
                            const RoutingRandom& random, const Routing& r);

// logits = x W, no bias; W (width, E), LeCun normal. Training adds noise of standard deviation
// noise_std / E to the logits; softmax comes before top-k, ties go to the lower expert, and
// the gates of the chosen experts are the weights as they are, not renormalised (spec 2.2). All of
// it is f32 where x is stored in bf16.
class Router {
 public:
  Router(int64_t width, const MoeConfig& config) : width_(width), config_(config) {}
  // Fills logits, clean, noisy_logits, gates, chosen and sigma of `routing`, whose sizes and
  // top_k are set.
  void forward(nn::Forward& f, const engine::Tensor& x, const RoutingRandom& random,
               Routing& routing) const;
  void visit(nn::ParamVisitor& v);

 private:
  int64_t width_;
  MoeConfig config_;
  nn::Parameter weight_;
};

// E two-layer MLPs, with dropout after GELU and after the second product in training.
class Experts {
 public:
  Experts(int64_t width, int64_t hidden, const MoeConfig& config, engine::GeluForm form);
  // xs (S, width): the rows of `plan`'s slots, sorted by expert; what they become, (S, width),
  // rounded to bf16 with bf16_dispatch.
  engine::Tensor forward(nn::Forward& f, const engine::Tensor& xs, const Routing& routing,
                         const DispatchPlan& plan, const RoutingRandom& random) const;
  void visit(nn::ParamVisitor& v);

 private:
  int64_t width_, hidden_;
  MoeConfig config_;
  engine::GeluForm form_;
  nn::Parameter up_weight_, up_bias_, down_weight_, down_bias_;
};

// residual + sum over the chosen experts of weight * expert(x). A token whose choices were all
// dropped passes through the residual alone.
class MoeLayer {
 public:
  // layer: the 0-based block, part of the key of its random numbers.
  MoeLayer(int64_t layer, int64_t width, int64_t hidden, const MoeConfig& config,
           engine::GeluForm form)
      : layer_(layer),
        width_(width),
        config_(config),
        router_(width, config),
        experts_(width, hidden, config, form) {}
  // x, residual: (B, T, width); a residual that is not defined is none. Error(kValue) when routing
  // groups do not divide the batch.
  engine::Tensor forward(nn::Forward& f, const engine::Tensor& x, const engine::Tensor& residual,
                         const RoutingRandom& random, Routing& routing) const;
  void visit(nn::ParamVisitor& v);

 private:
  // Sets the capacity of `r` and gives out the slots.
  DispatchPlan give_out(engine::Tape& tape, Routing& r, bool train) const;

  int64_t layer_, width_;
  MoeConfig config_;
  Router router_;
  Experts experts_;
};

// Experts that work on a token in training: K, or on average the capacity factor, rounded up, where
// tokens do not choose.
int64_t slots_per_token(const MoeConfig& config);

// Tokens of a routing group of a batch of `images`: group_images * tokens, or all.
int64_t group_tokens(const MoeConfig& config, int64_t images, int64_t tokens);

}  // namespace moe
