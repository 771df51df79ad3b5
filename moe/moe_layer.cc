#include "moe/moe_layer.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/pointwise.h"
#include "engine/ops/top_k.h"

namespace moe {

using engine::ErrorKind;
using engine::Tensor;

void MoeConfig::check() const {
  engine::check(experts >= 1, ErrorKind::kValue, "moe.experts must be positive, got ", experts);
  engine::check(top_k >= 1 && top_k <= experts, ErrorKind::kValue, "moe.top_k = ", top_k,
                " must lie between 1 and moe.experts = ", experts);
  engine::check(eval_top_k >= 0 && eval_top_k <= experts, ErrorKind::kValue,
                "moe.eval_top_k = ", eval_top_k, " must lie between 1 and moe.experts = ", experts,
                ", or be 0");
  engine::check(noise_std >= 0, ErrorKind::kValue, "moe.noise_std must not be negative, got ",
                noise_std);
  engine::check(expert_dropout >= 0 && expert_dropout < 1, ErrorKind::kValue,
                "moe.expert_dropout must lie in [0, 1), got ", expert_dropout);
  const bool capacities = dispatch == Dispatch::kCapacity || chooser != Chooser::kTokens;
  engine::check(!capacities || capacity_factor > 0, ErrorKind::kValue,
                "moe.capacity_factor must be positive, got ", capacity_factor);
  engine::check(capacity_multiple_of >= 1, ErrorKind::kValue,
                "moe.capacity_multiple_of must be positive, got ", capacity_multiple_of);
}

int64_t slots_per_token(const MoeConfig& config) {
  if (config.chooser == Chooser::kTokens) return config.top_k;
  return std::min(config.experts, static_cast<int64_t>(std::ceil(config.capacity_factor)));
}

int64_t group_tokens(const MoeConfig& config, int64_t images, int64_t tokens) {
  return (config.group_images > 0 ? config.group_images : images) * tokens;
}

DispatchPlan MoeLayer::give_out(engine::Tape& tape, Routing& r, bool train) const {
  const double factor = train ? config_.capacity_factor : config_.eval_capacity_factor;
  int64_t group = group_tokens(config_, r.images, r.tokens);
  if (r.expert_choice) {
    if (!train && factor == 0) group = r.tokens;
    const int64_t slots =
        capacity_of(group, 1, r.experts, factor > 0 ? factor : config_.capacity_factor,
                    config_.capacity_multiple_of);
    r.capacity = std::min(slots, group);
    return make_plan(tape, r.chosen, r.experts, r.capacity, group, SlotRule::kExpertChoice,
                     r.gates);
  }
  if (config_.dispatch == Dispatch::kCapacity && factor > 0) {
    r.capacity = capacity_of(group, r.top_k, r.experts, factor, config_.capacity_multiple_of);
  }
  return make_plan(tape, r.chosen, r.experts, r.capacity, group,
                   config_.batch_priority ? SlotRule::kBatchPriority : SlotRule::kTokenOrder,
                   r.gates);
}

Tensor MoeLayer::forward(nn::Forward& f, const Tensor& x, const Tensor& residual,
                         const RoutingRandom& random, Routing& routing) const {
  const int64_t images = x.shape()[0], tokens = x.shape()[1], n = images * tokens;
  routing = Routing{};
  routing.layer = layer_;
  routing.images = images;
  routing.tokens = tokens;
  routing.experts = config_.experts;
  const bool train = f.mode == nn::Mode::kTrain;
  routing.top_k = config_.choices(train);
  routing.expert_choice = config_.chooser == Chooser::kExperts;
  const Tensor flat = engine::reshape(x, {n, width_});
  router_.forward(f, flat, random, routing);

  const bool ordered = follow_order(f, routing);
  const DispatchPlan plan = ordered ? make_plan(f.tape, routing.chosen, routing.experts, 0, n)
                                    : give_out(f.tape, routing, train);
  routing.expert = plan.expert_of;
  routing.offset = plan.offset;
  routing.dropped = plan.dropped;
  if (!ordered) routing.weight = engine::pick(routing.gates, plan.expert_of);

  Tensor xs = engine::gather_rows(flat, plan.map);
  if (config_.bf16_dispatch) xs = engine::round_bf16(xs);
  const Tensor ys = experts_.forward(f, xs, routing, plan, random);
  routing.slot_of = plan.map.slot_of;
  routing.outputs = ys;
  const Tensor add = residual.defined() ? engine::reshape(residual, {n, width_}) : Tensor{};
  return engine::reshape(
      engine::combine_rows(ys, routing.weight, plan.map, add.defined() ? &add : nullptr),
      x.shape());
}

void MoeLayer::visit(nn::ParamVisitor& v) {
  v.child("router", router_);
  v.child("experts", experts_);
}

}  // namespace moe
