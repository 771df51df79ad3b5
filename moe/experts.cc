#include "engine/core/stored.h"
#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "moe/draw_kernels.h"
#include "moe/moe_layer.h"
#include "nn/draws.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// Dropout multipliers (S, width), 0 or 1/(1-rate), in slot order. An element's draw is keyed by
// its image and its choice in there, or by its slot's place in the expert; `part` tells the two
// masks of a layer apart.
Tensor draw_mask(nn::Forward& f, const Routing& r, const DispatchPlan& plan,
                 const MoeConfig& config, int64_t width, uint64_t part, engine::Dtype dtype) {
  check(static_cast<int64_t>(f.sample_ids.size()) == r.images, ErrorKind::kValue,
        "expert dropout needs the ids of ", r.images, " images, got ", f.sample_ids.size());
  const int64_t slots = plan.map.choice_of_slot.shape()[0];
  const Tensor mask = f.tape.arena().empty({slots, width}, dtype);
  const bool by_slot = config.dropout_mask == DropoutMask::kSlot;
  engine::StepKey key = nn::step_key(f, engine::Purpose::kExpertDropout)
                            .with(static_cast<uint64_t>(r.layer))
                            .with(part);
  if (by_slot) key = key.with(static_cast<uint64_t>(f.sample_ids[0]));
  const int64_t* ids = by_slot ? nullptr : nn::sample_ids(f);
  const kernels::MaskSlots rows{plan.map.choice_of_slot.data<const int32_t>(),
                                plan.expert_of.data<const int32_t>(),
                                plan.offset.data<const int32_t>(),
                                slots,
                                width,
                                plan.expert_of.numel() / r.images,
                                by_slot};
  engine::dispatch(mask, [&]<class T>(auto backend) {
    kernels::put_mask(backend, key, ids, config.expert_dropout, rows, mask.data<T>());
  });
  return mask;
}

// Rows of a mask given per (token, choice), brought into slot order.
Tensor slot_order(nn::Forward& f, const Tensor& mask, const DispatchPlan& plan, int64_t width) {
  const int64_t choices = plan.expert_of.numel();
  const engine::Shape expected{choices, width};
  check(mask.shape() == expected, ErrorKind::kShape, "expert dropout: expected a mask of ",
        expected, ", got ", mask.shape());
  return engine::gather_rows(f.tape.input(mask),
                             {plan.map.choice_of_slot, plan.map.slot_of.viewed({choices, 1})});
}

}  // namespace

Experts::Experts(int64_t width, int64_t hidden, const MoeConfig& config, engine::GeluForm form)
    : width_(width), hidden_(hidden), config_(config), form_(form) {}

Tensor Experts::forward(nn::Forward& f, const Tensor& xs, const Routing& routing,
                        const DispatchPlan& plan, const RoutingRandom& random) const {
  const bool train = f.mode == nn::Mode::kTrain;
  const bool given = random.hidden_dropout.defined() || random.output_dropout.defined();
  const auto dropped = [&](const Tensor& x, const Tensor& by_choice, int64_t width, uint64_t part) {
    if (!train || (given ? !by_choice.defined() : config_.expert_dropout == 0)) return x;
    const Tensor mask =
        given ? slot_order(f, by_choice, plan, width)
              : draw_mask(f, routing, plan, config_, width, part, engine::wide_dtype(x.dtype()));
    return engine::multiply(x, f.tape.input(mask));
  };
  Tensor h = engine::grouped_linear(xs, up_weight_.on(f), up_bias_.on(f), plan.offset,
                                    {.gelu = true, .form = form_, .precision = f.precision});
  h = dropped(h, random.hidden_dropout, hidden_, 0);
  Tensor y = engine::grouped_linear(h, down_weight_.on(f), down_bias_.on(f), plan.offset,
                                    {.precision = f.precision});
  y = dropped(y, random.output_dropout, width_, 1);
  return config_.bf16_dispatch ? engine::round_bf16(y) : y;
}

void Experts::visit(nn::ParamVisitor& v) {
  const int64_t e = config_.experts;
  const auto init = [&](nn::Init one) {
    one.copies = config_.identical_experts ? e : 1;
    return one;
  };
  v.parameter_named("up.weight", up_weight_,
                    {.shape = {e, width_, hidden_},
                     .init = init(nn::xavier_uniform(width_, hidden_)),
                     .kernel = true});
  v.parameter_named("up.bias", up_bias_, {.shape = {e, hidden_}, .init = init(nn::normal(1e-6))});
  v.parameter_named("down.weight", down_weight_,
                    {.shape = {e, hidden_, width_},
                     .init = init(nn::xavier_uniform(hidden_, width_)),
                     .kernel = true});
  v.parameter_named("down.bias", down_bias_,
                    {.shape = {e, width_}, .init = init(nn::normal(1e-6))});
}

}  // namespace moe
