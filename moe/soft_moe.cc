#include "moe/soft_moe.h"

#include <cmath>

#include "engine/core/stored.h"
#include "engine/ops/batched.h"
#include "engine/ops/cast.h"
#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "engine/ops/top_k.h"
#include "engine/ops/unit_rows.h"
#include "moe/draw_kernels.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

int64_t soft_slots(const MoeConfig& config, int64_t tokens) {
  const double slots = std::nearbyint(static_cast<double>(tokens) * config.capacity_factor /
                                      static_cast<double>(config.experts));
  check(slots >= 1, ErrorKind::kValue, "moe.chooser = \"soft\": ", config.experts,
        " experts have no slots for ", tokens,
        " tokens with moe.capacity_factor = ", config.capacity_factor,
        ": raise that or take fewer experts");
  return static_cast<int64_t>(slots);
}

namespace {

// The layout of every image's slots (image, expert, slot) as rows sorted by expert.
DispatchPlan slot_plan(engine::Tape& tape, int64_t images, int64_t experts, int64_t slots) {
  const Tensor owner = tape.arena().empty({images * experts * slots, 1}, engine::Dtype::kI32);
  engine::dispatch_device(owner.device(), [&](auto backend) {
    kernels::put_owners(backend, owner.numel(), slots, experts, owner.data<int32_t>());
  });
  return make_plan(tape, owner, experts, 0, images * experts * slots);
}

// What part of each token comes from each expert, and the experts with the largest parts.
void report_shares(engine::Tape& tape, const Tensor& combine, int64_t slots, Routing& r) {
  const int64_t n = r.images * r.tokens;
  const Tensor shares = tape.arena().empty({n, r.experts}, combine.dtype());
  const Tensor logs = tape.arena().empty({n, r.experts}, combine.dtype());
  engine::dispatch(combine, [&]<class T>(auto backend) {
    kernels::put_shares(backend, combine.data<const T>(), slots, n * r.experts, shares.data<T>(),
                        logs.data<T>());
  });
  r.clean = r.gates = tape.input(shares);
  r.logits = r.noisy_logits = tape.input(logs);
  r.chosen = r.expert = engine::top_k(r.gates, r.top_k);
  r.weight = engine::pick(r.gates, r.chosen);
}

}  // namespace

Tensor SoftMoeLayer::logits(nn::Forward& f, const Tensor& x, const RoutingRandom& random,
                            Routing& r) const {
  const Tensor mu = engine::unit_rows(mu_.on(f), factor_.on(f));
  const Tensor wide = engine::cast(x, engine::wide_dtype(x.dtype()));
  const Tensor clean = engine::linear(engine::unit_rows(wide), engine::transpose(mu), Tensor{});
  if (f.mode != nn::Mode::kTrain || config_.noise_std == 0) return clean;
  r.sigma = config_.noise_std / static_cast<double>(config_.experts);
  return engine::add(clean, router_noise(f, clean, random, r));
}

Tensor SoftMoeLayer::forward(nn::Forward& f, const Tensor& x, const Tensor& residual,
                             const RoutingRandom& random, Routing& routing) const {
  const int64_t images = x.shape()[0], tokens = x.shape()[1], all = config_.experts * slots_;
  routing = Routing{};
  routing.layer = layer_;
  routing.images = images;
  routing.tokens = tokens;
  routing.experts = config_.experts;
  routing.top_k = config_.choices(f.mode == nn::Mode::kTrain);
  routing.soft = true;
  check(soft_slots(config_, tokens) == slots_, ErrorKind::kShape, "soft moe: ", all,
        " slots do not belong to images of ", tokens, " tokens");
  const Tensor flat = engine::reshape(x, {images * tokens, width_});
  const Tensor scores = engine::reshape(logits(f, flat, random, routing), {images, tokens, all});
  const Tensor dispatch = engine::softmax(engine::transpose(scores));  // (B, slots, T)
  const Tensor combine = engine::softmax(scores);                      // (B, T, slots)
  report_shares(f.tape, combine, slots_, routing);

  const DispatchPlan plan = slot_plan(f.tape, images, config_.experts, slots_);
  routing.offset = plan.offset;
  // Of tokens stored in bf16 the weights are too, once they are to be multiplied.
  const Tensor mixed =
      engine::batched_matmul(engine::cast(dispatch, x.dtype()),
                             config_.bf16_dispatch ? engine::round_bf16(x) : x, f.precision);
  const Tensor xs = engine::gather_rows(engine::reshape(mixed, {images * all, width_}), plan.map);
  const Tensor ys = experts_.forward(f, xs, routing, plan, random);
  // Back to one image after the other: a slot's row is where its number says, so the two arrays of
  // the map change places.
  const engine::RowMap back{plan.map.slot_of.viewed({images * all}),
                            plan.map.choice_of_slot.viewed({images * all, 1})};
  const Tensor by_image = engine::reshape(engine::gather_rows(ys, back), {images, all, width_});
  const Tensor y = engine::batched_matmul(engine::cast(combine, x.dtype()), by_image, f.precision);
  return residual.defined() ? engine::add(y, residual) : y;
}

void SoftMoeLayer::visit(nn::ParamVisitor& v) {
  const int64_t all = config_.experts * slots_;
  v.parameter_named("router.slots", mu_,
                    {.shape = {all, width_}, .init = nn::lecun_normal(config_.experts * width_)});
  v.parameter_named("router.scale", factor_, {.shape = {1}, .init = nn::ones()});
  v.child("experts", experts_);
}

}  // namespace moe
