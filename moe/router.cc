#include "engine/core/backend.h"
#include "engine/core/parallel.h"
#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "engine/ops/top_k.h"
#include "moe/moe_layer.h"

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
  const engine::RngKey key = engine::RngKey(f.seed, engine::Purpose::kRouterNoise)
                                 .with(static_cast<uint64_t>(f.step))
                                 .with(static_cast<uint64_t>(r.layer));
  const int64_t row = logits.numel() / r.images;
  engine::dispatch_cpu(noise, [&]<class T>(engine::Cpu) {
    T* out = noise.data<T>();
    engine::parallel_for(r.images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const engine::RngKey own = key.with(static_cast<uint64_t>(f.sample_ids[b]));
        for (int64_t i = 0; i < row; ++i) {
          out[b * row + i] = static_cast<T>(r.sigma * own.normal(static_cast<uint64_t>(i)));
        }
      }
    });
  });
  return f.tape.input(noise);
}

void Router::forward(nn::Forward& f, const Tensor& x, const RoutingRandom& random,
                     Routing& routing) const {
  routing.logits = engine::linear(x, weight_.on(f), Tensor{});
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
