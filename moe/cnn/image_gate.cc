#include "moe/cnn/image_gate.h"

#include <algorithm>

#include "engine/core/upload.h"
#include "engine/ops/top_k.h"
#include "moe/cnn/image_gate_kernels.h"

namespace moe {

using engine::check;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

Tensor noisy_selection(const nn::Forward& f, const Tensor& scores, int64_t layer) {
  const int64_t rows = scores.shape()[0], experts = scores.shape()[1];
  const auto images = static_cast<int64_t>(f.sample_ids.size());
  check(images > 0 && rows % images == 0, ErrorKind::kValue, "noisy_selection: ", images,
        " sample ids for ", rows, " images, or patches of images");
  const int64_t patches = rows / images;
  const Tensor q = f.tape.arena().empty(scores.shape(), scores.dtype());
  const auto key = engine::RngKey(f.seed, engine::Purpose::kRouterNoise)
                       .with(static_cast<uint64_t>(f.step))
                       .with(static_cast<uint64_t>(layer));
  const kernels::SelectionNoise noise{key, engine::upload(f.tape.arena(), f.sample_ids), patches};
  engine::dispatch(scores, [&]<class T>(auto backend) {
    kernels::select_noisily(backend, scores.data<const T>(), noise, {rows, experts}, q.data<T>());
  });
  return q;
}

Tensor choose_experts(Tape& tape, const Tensor& q, int64_t k, int64_t capacity) {
  check(q.shape().rank() == 2, ErrorKind::kShape, "choose_experts: expected (T, N), got ",
        q.shape());
  const int64_t images = q.shape()[0], experts = q.shape()[1];
  check(k >= 1 && k <= experts && capacity >= 0, ErrorKind::kValue, "choose_experts: ", k, " of ",
        experts, " experts with room for ", capacity);
  if (capacity == 0) return engine::top_k(tape.input(q), k);
  engine::StepArena& arena = tape.arena();
  const kernels::Assignment a{.images = images,
                              .experts = experts,
                              .k = k,
                              .capacity = std::min(capacity, images),
                              .q = arena.empty(q.shape(), Dtype::kF64).data<double>(),
                              .room = arena.empty({experts}, Dtype::kI32).data<int32_t>(),
                              .taken = arena.empty(q.shape(), Dtype::kU8).data<uint8_t>(),
                              .asks = arena.empty(q.shape(), Dtype::kU8).data<uint8_t>()};
  Tensor chosen = arena.empty({images, k}, Dtype::kI32);
  engine::dispatch(q, [&]<class T>(auto backend) {
    kernels::assign_experts(backend, q.data<const T>(), a, chosen.data<int32_t>());
  });
  return chosen;
}

Tensor gate_weights(const Tensor& scores, const Tensor& chosen, GateWeight form) {
  const Tensor s = engine::pick(scores, chosen);
  const int64_t images = s.shape()[0], k = s.shape()[1];
  check(form != GateWeight::kStraightThrough || k == 1, ErrorKind::kValue,
        "gate_weights: straight-through is for one expert an image, not ", k);
  Tape& on = *scores.tape();
  Tensor w = on.arena().empty(s.shape(), s.dtype());
  const engine::RowsCols size{images, k};
  engine::dispatch(s, [&]<class T>(auto backend) {
    kernels::gate_weights_forward(backend, s.data<const T>(), size, form, w.data<T>());
  });
  on.record("gate_weights", {s}, w, [=](const Tensor& dy, Tape& tape) {
    const Tensor ds = tape.target_zeroed(s);
    engine::dispatch(dy, [&]<class T>(auto backend) {
      kernels::gate_weights_backward(backend, s.data<const T>(), dy.data<const T>(), size, form,
                                     ds.data<T>());
    });
  });
  return w;
}

}  // namespace moe
