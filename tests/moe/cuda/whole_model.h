#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "moe/routing.h"
#include "moe/vmoe.h"
#include "tests/support/devices.h"
#include "tests/support/model_fixture.h"
#include "tests/support/parity.h"

// One pass of a whole V-MoE, forward and backward, on either device.
namespace engine::test {

constexpr int64_t kImages = 6;

// Sizes that 16-byte accesses fit, and that they do not. Where all four experts serve every token
// no choice can change.
inline moe::VmoeConfig config_of(int64_t width, int64_t top_k = 4) {
  moe::VmoeConfig c = small_vmoe(4, top_k);
  c.vit.width = width;
  c.vit.mlp = 2 * width + 4;
  return c;
}

// What each MoE layer chose, with what weights.
struct Choices {
  std::vector<std::vector<int32_t>> chosen;
  std::vector<std::vector<float>> weight;
};

struct Pass {
  naive::Vec logits, gradient, images;  // of all parameters, and of the images
  std::vector<Dtype> dtypes;            // of what the routers left, and of the logits
  Choices choices;
  std::vector<naive::Vec> gates;
  Dtype outputs = Dtype::kI32;  // of the experts, on the device
  std::string not_finite;
};

// given: choices and weights in the place of the pass's own.
inline Pass pass(Device device, const moe::VmoeConfig& c, Precision precision,
                 const Choices* given = nullptr) {
  moe::Vmoe model(c);
  engine::ParamStore host, store;
  nn::Binder(host, 1, false).bind(model, Dtype::kF32);
  // Near a fresh model, whose activations stay of the order of 1; but its head is zero.
  uint64_t seed = 3;
  for (const auto& [path, fresh] : params_of(host)) {
    naive::Vec v = values<double>(static_cast<int64_t>(fresh.size()), seed++, 0.1);
    for (size_t i = 0; i < v.size(); ++i) v[i] += fresh[i];
    set_param(host, path, v);
  }
  nn::Binder(store, 1, true).bind(model, Dtype::kF32, device);
  const Tensor from = host.slab(Slab::kValue);
  engine::device_copy(device, store.slab(Slab::kValue).raw(), Device::kCpu, from.raw(),
                      from.bytes());
  const Batch<float> batch = random_batch<float>(c, kImages);
  const Shape shape{kImages, c.vit.channels, c.vit.image_size, c.vit.image_size};
  const Buffer images = upload(batch.images, shape, device);
  const Buffer dimages = upload(std::vector<float>(batch.images.size()), shape, device);
  const Buffer dlogits =
      upload(test_values<float>(8, kImages * c.vit.classes), {kImages, c.vit.classes}, device);

  engine::StepArena arena(device), copies;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = nn::Mode::kTrain,
                .precision = precision,
                .seed = 11,
                .step = 5,
                .sample_ids = batch.ids};
  moe::RoutingOrders orders;
  for (size_t l = 0; given != nullptr && l < given->chosen.size(); ++l) {
    const Shape each{static_cast<int64_t>(given->chosen[l].size()) / c.moe.top_k, c.moe.top_k};
    orders.layers.push_back({.layer = c.moe_layers[l],
                             .chosen = on(arena, given->chosen[l], each),
                             .weight = on(arena, given->weight[l], each)});
  }
  if (given != nullptr) f.orders = &orders;
  moe::ModelOutput out;
  model.forward(f, tape.leaf(images.tensor(), dimages.tensor()), out);
  tape.backward(out.logits, dlogits.tensor());
  Pass p;
  p.logits = f64_of(download<float>(out.logits));
  p.gradient = f64_of(download<float>(store.slab(Slab::kGrad)));
  p.images = f64_of(download<float>(dimages));
  p.not_finite = tape.first_non_finite();
  p.dtypes = {out.logits.dtype()};
  for (const moe::Routing& r : out.routings) {
    for (const Tensor* t : {&r.logits, &r.clean, &r.noisy_logits, &r.gates, &r.weight}) {
      p.dtypes.push_back(t->dtype());
    }
    const moe::Routing here = moe::on_host(r, copies);
    p.gates.push_back(f64_of(here.gates));
    if (r.soft) continue;
    p.choices.chosen.push_back(copy_of<int32_t>(here.chosen));
    p.choices.weight.push_back(copy_of<float>(here.weight));
    p.outputs = r.outputs.dtype();
    // Who reads them on the host finds f32.
    CHECK(here.outputs.dtype() == Dtype::kF32);
    CHECK(here.outputs.shape() == r.outputs.shape());
    if (r.outputs.dtype() != Dtype::kBF16) continue;
    const auto stored = download<engine::bf16>(r.outputs);
    const auto wide = copy_of<float>(here.outputs);
    bool same = true;
    for (size_t i = 0; i < wide.size(); ++i) same &= wide[i] == engine::to_float(stored[i]);
    CHECK(same);
  }
  return p;
}

// |a - b| / |b|
inline double distance_of(const naive::Vec& a, const naive::Vec& b) {
  double difference = 0, norm = 0;
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(a[i] - b[i], 2);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace engine::test
