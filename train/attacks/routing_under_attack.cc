#include "train/attacks/routing_under_attack.h"

#include <algorithm>
#include <cmath>
#include <utility>

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

RoutingWatcher::RoutingWatcher(const Network& network, const Config& config, size_t attacks)
    : network_(network), model_(network_, config) {
  engine::check(network.chooses_experts(), engine::ErrorKind::kInternal,
                "routing under attack: this model chooses no experts");
  sums_.layers.assign(attacks, std::vector<Sums::Layer>(network.moe_layer_names().size()));
  sums_.frozen_right.assign(attacks, 0);
}

// What the pass just made chose.
void RoutingWatcher::remember() {
  kept_.clear();
  for (const moe::Routing& r : model_.routings()) {
    kept_.push_back({r.layer, r.chosen.shape()[1], copy<int32_t>(r.chosen), copy<int32_t>(r.expert),
                     copy<float>(r.weight)});
  }
}

void RoutingWatcher::begin(const Victims& clean) {
  std::vector<moe::LayerOrder>& orders = network_.orders();
  orders.clear();
  gradient_.resize(clean.clean.size());
  without_.resize(clean.clean.size());
  model_.logits_and_gradient(clean.clean, clean.labels, gradient_);
  remember();
  // The same choices and weights, but as constants: what is left goes past the routers.
  for (Kept& k : kept_) {
    const int64_t tokens = static_cast<int64_t>(k.chosen.size()) / k.choices;
    orders.push_back({.layer = k.layer,
                      .chosen = Tensor(k.chosen.data(), {tokens, k.choices}, engine::Dtype::kI32,
                                       engine::Device::kCpu),
                      .weight = Tensor(k.weight.data(), {tokens, k.choices}, engine::Dtype::kF32,
                                       engine::Device::kCpu)});
  }
  model_.logits_and_gradient(clean.clean, clean.labels, without_);
  const auto pixels = static_cast<size_t>(model_.pixels_per_image());
  for (size_t i = 0; i < clean.broken.size(); ++i) {
    if (clean.broken[i] != 0) continue;
    ++sums_.images;
    const std::span<const float> past = std::span(without_).subspan(i * pixels, pixels);
    const std::span<float> routed = std::span(gradient_).subspan(i * pixels, pixels);
    for (size_t p = 0; p < pixels; ++p) routed[p] -= past[p];
    const double by_router = norm(routed), all = by_router + norm(past);
    sums_.gradient_share += all > 0 ? by_router / all : 0;
  }
}

void RoutingWatcher::compare(size_t attack, const Victims& clean) {
  for (size_t l = 0; l < kept_.size(); ++l) {
    const moe::Routing& r = model_.routings()[l];
    const Kept& before = kept_[l];
    const auto* expert = r.expert.data<const int32_t>();
    const auto* chosen = r.chosen.data<const int32_t>();
    Sums::Layer& sum = sums_.layers[attack][l];
    for (int64_t t = 0; t < static_cast<int64_t>(clean.broken.size()) * r.tokens; ++t) {
      if (clean.broken[static_cast<size_t>(t / r.tokens)] != 0) continue;
      const auto at = static_cast<size_t>(t * before.choices);
      const auto choices = static_cast<size_t>(before.choices);
      sum.change += changed({before.expert.data() + at, choices}, {expert + at, choices});
      sum.flips += before.chosen[at] != chosen[at] ? 1 : 0;
      ++sum.tokens;
    }
  }
}

void RoutingWatcher::add(size_t attack, const Victims& clean, const Victims& attacked) {
  const std::span<const float> frozen = model_.logits(attacked.adversarial);
  for (int64_t i = 0; i < clean.size(); ++i) {
    if (clean.broken[static_cast<size_t>(i)] != 0) continue;
    const float* row = frozen.data() + i * model_.classes();
    sums_.frozen_right[attack] +=
        predicted_class(row, model_.classes()) == clean.labels[static_cast<size_t>(i)] ? 1 : 0;
  }
  const std::vector<moe::LayerOrder> orders = std::exchange(network_.orders(), {});
  model_.logits(attacked.adversarial);
  compare(attack, clean);
  network_.orders() = orders;
}

RoutingFigures RoutingWatcher::figures() const {
  const double images = static_cast<double>(std::max<int64_t>(1, sums_.images));
  RoutingFigures out;
  out.router_gradient_share = sums_.gradient_share / images;
  const std::vector<std::string> names = network_.moe_layer_names();
  for (size_t a = 0; a < sums_.layers.size(); ++a) {
    RoutingFigures::Attack& attack = out.attacks.emplace_back();
    attack.frozen_right = sums_.frozen_right[a];
    for (size_t l = 0; l < names.size(); ++l) {
      const Sums::Layer& sum = sums_.layers[a][l];
      const auto tokens = static_cast<double>(std::max<int64_t>(1, sum.tokens));
      attack.layers.push_back(
          {names[l], sum.change / tokens, static_cast<double>(sum.flips) / tokens});
    }
  }
  return out;
}

}  // namespace train
