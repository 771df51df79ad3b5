#include <algorithm>
#include <array>
#include <span>

#include "engine/core/backend.h"
#include "engine/core/parallel.h"
#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "moe/moe_layer.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// out[i] = key.uniform(i) < rate ? 0 : keep, where `drops` stands for the rate.
template <class T>
void fill_row(const engine::RngKey& key, uint64_t drops, T keep, std::span<T> out) {
  std::array<uint64_t, 256> bits;
  for (size_t i = 0; i < out.size(); i += bits.size()) {
    const std::span<uint64_t> here(bits.data(), std::min(bits.size(), out.size() - i));
    key.bits(i, here);
    for (size_t j = 0; j < here.size(); ++j) out[i + j] = here[j] < drops ? T(0) : keep;
  }
}

// Dropout multipliers (S, width), 0 or 1/(1-rate), in slot order. An element's draw is keyed by
// its image and its choice in there, or by its slot's place in the expert; `part` tells the two
// masks of a layer apart.
Tensor draw_mask(nn::Forward& f, const Routing& r, const DispatchPlan& plan,
                 const MoeConfig& config, int64_t width, uint64_t part, engine::Dtype dtype) {
  check(static_cast<int64_t>(f.sample_ids.size()) == r.images, ErrorKind::kValue,
        "expert dropout needs the ids of ", r.images, " images, got ", f.sample_ids.size());
  const int64_t slots = plan.map.choice_of_slot.shape()[0];
  const int64_t row = plan.expert_of.numel() / r.images;
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
    const uint64_t drops = engine::RngKey::below_uniform(rate);
    T* out = mask.data<T>();
    engine::parallel_for(slots, engine::rows_per_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t choice = choice_of_slot[s];
        const engine::RngKey own =
            by_slot ? key.with(static_cast<uint64_t>(f.sample_ids[0]))
                          .with(static_cast<uint64_t>(s - offset[expert_of[choice]]))
                    : key.with(static_cast<uint64_t>(f.sample_ids[choice / row]))
                          .with(static_cast<uint64_t>(choice % row));
        fill_row(own, drops, keep, std::span<T>(out + s * width, static_cast<size_t>(width)));
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

Experts::Experts(int64_t width, int64_t hidden, const MoeConfig& config, engine::GeluForm form)
    : width_(width), hidden_(hidden), config_(config), form_(form) {}

Tensor Experts::forward(nn::Forward& f, const Tensor& xs, const Routing& routing,
                        const DispatchPlan& plan, const RoutingRandom& random) const {
  const bool train = f.mode == nn::Mode::kTrain;
  const bool given = random.hidden_dropout.defined() || random.output_dropout.defined();
  const auto dropped = [&](const Tensor& x, const Tensor& by_choice, int64_t width, uint64_t part) {
    if (!train || (given ? !by_choice.defined() : config_.expert_dropout == 0)) return x;
    const Tensor mask = given ? slot_order(f, by_choice, plan, width)
                              : draw_mask(f, routing, plan, config_, width, part, x.dtype());
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
