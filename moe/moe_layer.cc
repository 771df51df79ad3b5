#include "moe/moe_layer.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"
#include "engine/core/parallel.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/top_k.h"

namespace moe {

using engine::check;
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
  const bool capacities = dispatch == Dispatch::kCapacity || chooser == Chooser::kExperts;
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

namespace {

// Dropout multipliers (S, width), 0 or 1/(1-rate), in slot order. An element's draw is keyed by
// its image, token and choice, or by its slot's place in the expert; `part` tells the two masks
// of a layer apart.
Tensor draw_mask(nn::Forward& f, const Routing& r, const DispatchPlan& plan,
                 const MoeConfig& config, int64_t width, uint64_t part, engine::Dtype dtype) {
  check(static_cast<int64_t>(f.sample_ids.size()) == r.images, ErrorKind::kValue,
        "expert dropout needs the ids of ", r.images, " images, got ", f.sample_ids.size());
  const int64_t slots = plan.map.choice_of_slot.shape()[0], row = r.tokens * r.top_k;
  const Tensor mask = f.tape.arena().empty({slots, width}, dtype);
  const int32_t* choice_of_slot = plan.map.choice_of_slot.data<const int32_t>();
  const int32_t* offset = plan.offset.data<const int32_t>();
  const int32_t* expert_of = plan.expert_of.data<const int32_t>();
  const bool by_slot = config.dropout_mask == DropoutMask::kSlot;
  const double rate = config.expert_dropout;
  const engine::RngKey key = engine::RngKey(f.seed, engine::Purpose::kExpertDropout)
                                 .with(static_cast<uint64_t>(f.step))
                                 .with(static_cast<uint64_t>(r.layer))
                                 .with(part);
  engine::dispatch_cpu(mask, [&]<class T>(engine::Cpu) {
    const T keep = static_cast<T>(1 / (1 - rate));
    T* out = mask.data<T>();
    engine::parallel_for(slots, engine::rows_per_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t choice = choice_of_slot[s];
        const engine::RngKey own =
            by_slot ? key.with(static_cast<uint64_t>(f.sample_ids[0]))
                          .with(static_cast<uint64_t>(s - offset[expert_of[choice]]))
                    : key.with(static_cast<uint64_t>(f.sample_ids[choice / row]))
                          .with(static_cast<uint64_t>(choice % row));
        for (int64_t i = 0; i < width; ++i) {
          out[s * width + i] = own.uniform(static_cast<uint64_t>(i)) < rate ? T(0) : keep;
        }
      }
    });
  });
  return mask;
}

// Rows of a mask given per (token, choice), brought into slot order.
Tensor slot_order(nn::Forward& f, const Tensor& mask, const DispatchPlan& plan, int64_t width) {
  const engine::Shape expected{plan.expert_of.numel(), width};
  check(mask.shape() == expected, ErrorKind::kShape, "expert dropout: expected a mask of ",
        expected, ", got ", mask.shape());
  const int64_t slots = plan.map.choice_of_slot.shape()[0];
  const Tensor out = f.tape.arena().empty({slots, width}, mask.dtype());
  const int32_t* choice = plan.map.choice_of_slot.data<const int32_t>();
  engine::dispatch_cpu(mask, [&]<class T>(engine::Cpu) {
    for (int64_t s = 0; s < slots; ++s) {
      std::copy_n(mask.data<const T>() + choice[s] * width, width, out.data<T>() + s * width);
    }
  });
  return out;
}

}  // namespace

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

  const DispatchPlan plan = give_out(f.tape, routing, train);
  routing.expert = plan.expert_of;
  routing.offset = plan.offset;
  routing.dropped = plan.dropped;
  routing.weight = engine::pick(routing.gates, plan.expert_of);

  Tensor hidden_mask, output_mask;
  if (train && random.hidden_dropout.defined()) {
    hidden_mask = slot_order(f, random.hidden_dropout, plan, hidden_);
  }
  if (train && random.output_dropout.defined()) {
    output_mask = slot_order(f, random.output_dropout, plan, width_);
  }
  if (train && config_.expert_dropout > 0 && !hidden_mask.defined() && !output_mask.defined()) {
    hidden_mask = draw_mask(f, routing, plan, config_, hidden_, 0, x.dtype());
    output_mask = draw_mask(f, routing, plan, config_, width_, 1, x.dtype());
  }
  Tensor xs = engine::gather_rows(flat, plan.map);
  if (config_.bf16_dispatch) xs = engine::round_bf16(xs);
  Tensor ys = experts_.forward(f, xs, plan.offset, hidden_mask, output_mask);
  if (config_.bf16_dispatch) ys = engine::round_bf16(ys);
  routing.slot_of = plan.map.slot_of;
  routing.outputs = ys;
  const Tensor add = engine::reshape(residual, {n, width_});
  return engine::reshape(engine::combine_rows(ys, routing.weight, plan.map, &add), x.shape());
}

void MoeLayer::visit(nn::ParamVisitor& v) {
  v.child("router", router_);
  v.child("experts", experts_);
}

}  // namespace moe
