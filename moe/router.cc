#include "engine/core/stored.h"
#include "engine/ops/cast.h"
#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "engine/ops/top_k.h"
#include "moe/draw_kernels.h"
#include "moe/moe_layer.h"
#include "nn/draws.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

Tensor router_noise(nn::Forward& f, const Tensor& logits, const RoutingRandom& random,
                    const Routing& r) {
  if (random.noise.defined()) return engine::scale(f.tape.input(random.noise), r.sigma);
  check(static_cast<int64_t>(f.sample_ids.size()) == r.images, ErrorKind::kValue,
        "router noise needs the ids of ", r.images, " images, got ", f.sample_ids.size());
  const Tensor noise = f.tape.arena().empty(logits.shape(), logits.dtype());
  const engine::StepKey key =
      nn::step_key(f, engine::Purpose::kRouterNoise).with(static_cast<uint64_t>(r.layer));
  const int64_t row = logits.numel() / r.images;
  const int64_t* ids = nn::sample_ids(f);
  engine::dispatch(noise, [&]<class T>(auto backend) {
    kernels::put_noise(backend, key, ids, r.sigma, {r.images, row}, noise.data<T>());
  });
  return f.tape.input(noise);
}

void Router::forward(nn::Forward& f, const Tensor& x, const RoutingRandom& random,
                     Routing& routing) const {
  const Tensor in = engine::cast(x, engine::wide_dtype(x.dtype()));
  routing.logits = engine::linear(in, weight_.on(f), Tensor{});
  routing.clean = engine::softmax(routing.logits);
  const bool noisy = f.mode == nn::Mode::kTrain && config_.noise_std > 0;
  routing.sigma = noisy ? config_.noise_std / static_cast<double>(config_.experts) : 0;
  if (noisy) {
    routing.noisy_logits =
        engine::add(routing.logits, router_noise(f, routing.logits, random, routing));
    routing.gates = engine::softmax(routing.noisy_logits);
  } else {
    routing.noisy_logits = routing.logits;
    routing.gates = routing.clean;
  }
  routing.chosen = engine::top_k(routing.gates, routing.top_k);
}

void Router::visit(nn::ParamVisitor& v) {
  v.parameter_named(
      "weight", weight_,
      {.shape = {width_, config_.experts}, .init = nn::lecun_normal(width_), .kernel = true});
}

}  // namespace moe
