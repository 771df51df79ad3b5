#include "train/attacks/routing_under_attack.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/core/device_memory.h"
#include "engine/core/error.h"
#include "train/evaluate.h"

namespace train {

using engine::Tensor;

namespace {

template <class T>
std::vector<T> copy(const Tensor& x) {
  const T* from = x.data<const T>();
  return {from, from + x.numel()};
}

// A copy of the host's numbers.
engine::Buffer on_device(const Tensor& x, engine::Device device) {
  engine::Buffer copy(x.shape(), x.dtype(), device);
  engine::device_copy(device, copy.tensor().raw(), x.device(), x.raw(), x.bytes());
  return copy;
}

double norm(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

// 1 - |A and B| / |A or B| of two lists of different experts, -1 being none; 0 where both are
// empty.
double changed(std::span<const int32_t> a, std::span<const int32_t> b) {
  int64_t shared = 0, in_a = 0, in_b = 0;
  for (const int32_t e : a) {
    if (e < 0) continue;
    ++in_a;
    shared += std::ranges::count(b, e);
  }
  for (const int32_t e : b) in_b += e >= 0 ? 1 : 0;
  const int64_t either = in_a + in_b - shared;
  return either > 0 ? 1 - static_cast<double>(shared) / static_cast<double>(either) : 0;
}

}  // namespace

RoutingWatcher::RoutingWatcher(const Network& network, const Config& config)
    : network_(network), model_(network_, config) {
  engine::check(network.chooses_experts(), engine::ErrorKind::kInternal,
                "routing under attack: this model chooses no experts");
}

// What the pass just made chose.
void RoutingWatcher::remember() {
  kept_.clear();
  for (const moe::Routing& r : model_.routings()) {
    kept_.push_back({r.layer, r.chosen.shape()[1], copy<int32_t>(r.chosen), copy<int32_t>(r.expert),
                     on_device(r.chosen, model_.device()), on_device(r.weight, model_.device())});
  }
}

void RoutingWatcher::begin(const Victims& clean, double& share) {
  std::vector<moe::LayerOrder>& orders = network_.orders();
  orders.clear();
  gradient_.resize(clean.clean.size());
  without_.resize(clean.clean.size());
  model_.logits_and_gradient(clean.clean, clean.labels, gradient_);
  remember();
  // The same choices and weights, but as constants: what is left goes past the routers.
  for (const Kept& k : kept_) {
    orders.push_back(
        {.layer = k.layer, .chosen = k.fixed_choice.tensor(), .weight = k.fixed_weight.tensor()});
  }
  model_.logits_and_gradient(clean.clean, clean.labels, without_);
  const auto pixels = static_cast<size_t>(model_.pixels_per_image());
  for (size_t i = 0; i < clean.broken.size(); ++i) {
    if (clean.broken[i] != 0) continue;
    const std::span<const float> past = std::span(without_).subspan(i * pixels, pixels);
    const std::span<float> routed = std::span(gradient_).subspan(i * pixels, pixels);
    for (size_t p = 0; p < pixels; ++p) routed[p] -= past[p];
    const double by_router = norm(routed), all = by_router + norm(past);
    share += all > 0 ? by_router / all : 0;
  }
}

void RoutingWatcher::compare(const Victims& clean, RoutingChanges& changes) {
  changes.layers.resize(kept_.size());
  for (size_t l = 0; l < kept_.size(); ++l) {
    const moe::Routing& r = model_.routings()[l];
    const Kept& before = kept_[l];
    const auto* expert = r.expert.data<const int32_t>();
    const auto* chosen = r.chosen.data<const int32_t>();
    const auto choices = static_cast<size_t>(before.choices);
    RoutingChanges::Layer& sum = changes.layers[l];
    for (int64_t t = 0; t < clean.size() * r.tokens; ++t) {
      if (clean.broken[static_cast<size_t>(t / r.tokens)] != 0) continue;
      const size_t at = static_cast<size_t>(t) * choices;
      sum.change += changed({before.expert.data() + at, choices}, {expert + at, choices});
      sum.flips += before.chosen[at] != chosen[at] ? 1 : 0;
      ++sum.tokens;
    }
  }
}

void RoutingWatcher::add(const Victims& clean, const Victims& attacked, RoutingChanges& changes) {
  const std::span<const float> frozen = model_.logits(attacked.adversarial);
  for (int64_t i = 0; i < clean.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    if (clean.broken[at] != 0) continue;
    const float* row = frozen.data() + i * model_.classes();
    changes.frozen_right += predicted_class(row, model_.classes()) == clean.labels[at] ? 1 : 0;
  }
  const std::vector<moe::LayerOrder> orders = std::exchange(network_.orders(), {});
  model_.logits(attacked.adversarial);
  compare(clean, changes);
  network_.orders() = orders;
}

}  // namespace train
