#include "moe/routing.h"

#include <algorithm>

#include "engine/core/device_memory.h"
#include "moe/dispatch.h"
#include "moe/draw_kernels.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

bool follow_order(nn::Forward& f, Routing& r) {
  const auto* orders = dynamic_cast<const RoutingOrders*>(f.orders);
  if (orders == nullptr) return false;
  const auto found = std::ranges::find(orders->layers, r.layer, &LayerOrder::layer);
  if (found == orders->layers.end()) return false;
  const int64_t n = r.images * r.tokens;
  if (found->expert < 0) {
    const engine::Shape &chosen = found->chosen.shape(), &weight = found->weight.shape();
    check(chosen.rank() == 2 && chosen[0] == n && weight == chosen, ErrorKind::kShape,
          "routing order for layer ", r.layer, ": choices ", chosen, " and weights ", weight,
          " for ", n, " tokens");
    r.chosen = found->chosen;
    r.weight = f.tape.input(found->weight);
    r.top_k = chosen[1];
    return true;
  }
  check(found->expert < r.experts, ErrorKind::kValue, "there is no expert ", found->expert,
        " in a layer of ", r.experts);
  r.top_k = 1;
  r.chosen = f.tape.arena().empty({n, 1}, engine::Dtype::kI32);
  const auto expert = static_cast<int32_t>(found->expert);
  engine::dispatch_device(r.chosen.device(), [&](auto backend) {
    kernels::fill(backend, r.chosen.data<int32_t>(), n, expert);
  });
  const Tensor weight = f.tape.arena().empty({n, 1}, r.clean.dtype());
  engine::dispatch(
      weight, [&]<class T>(auto backend) { kernels::fill(backend, weight.data<T>(), n, T(1)); });
  r.weight = f.tape.input(weight);
  return true;
}

namespace {

// Host memory of bf16 as f32.
Tensor widened(engine::StepArena& arena, const Tensor& x) {
  if (x.dtype() != engine::Dtype::kBF16) return x;
  const Tensor y = arena.empty(x.shape(), engine::Dtype::kF32);
  const auto* from = x.data<const engine::bf16>();
  float* to = y.data<float>();
  for (int64_t i = 0; i < x.numel(); ++i) to[i] = engine::to_float(from[i]);
  return y;
}

}  // namespace

Routing on_host(const Routing& routing, engine::StepArena& host_arena) {
  using engine::Device;
  Routing r = routing;
  if (r.chosen.device() == Device::kCpu) return r;
  for (Tensor* t : {&r.logits, &r.clean, &r.noisy_logits, &r.gates, &r.chosen, &r.expert, &r.weight,
                    &r.offset, &r.slot_of, &r.outputs}) {
    *t = widened(host_arena, engine::brought_to(host_arena, *t));
  }
  if (r.dropped == kUnknownDropped) r.dropped = count_dropped(r.expert, r.offset, r.expert_choice);
  return r;
}

int64_t dropped_of(const Routing& r, engine::StepArena& host_arena) {
  if (r.dropped != kUnknownDropped) return r.dropped;
  const Tensor expert = r.expert_choice ? engine::brought_to(host_arena, r.expert) : r.expert;
  return count_dropped(expert, engine::brought_to(host_arena, r.offset), r.expert_choice);
}

}  // namespace moe
