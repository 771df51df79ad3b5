#pragma once

#include <string>
#include <vector>

#include "moe/routing.h"
#include "train/network.h"

namespace train {

// A network whose MoE layers do as they are told: what is in orders() at the time of a pass. Around
// another such network its orders come first; layers that it says nothing of follow the inner
// one's.
class OrderedNetwork final : public Network {
 public:
  explicit OrderedNetwork(const Network& network) : network_(network) { put_on(network.device()); }
  std::vector<moe::LayerOrder>& orders() { return orders_.layers; }

  void forward(nn::Forward& f, const engine::Tensor& images, moe::ModelOutput& out) const override {
    const nn::Orders* const outer = f.orders;
    moe::RoutingOrders both;
    if (const auto* first = dynamic_cast<const moe::RoutingOrders*>(outer)) {
      both.layers = first->layers;  // an earlier one of the same layer wins
    }
    both.layers.insert(both.layers.end(), orders_.layers.begin(), orders_.layers.end());
    f.orders = &both;
    network_.forward(f, images, out);
    f.orders = outer;
  }
  // Of the network itself; its parameters are not for visitors of this one.
  void visit(nn::ParamVisitor&) override {}
  engine::Precision precision() const override { return network_.precision(); }
  bool has_experts() const override { return network_.has_experts(); }
  bool chooses_experts() const override { return network_.chooses_experts(); }
  std::vector<std::string> moe_layer_names() const override { return network_.moe_layer_names(); }
  int64_t dependent_images() const override { return network_.dependent_images(); }
  nn::Cost cost_per_image() const override { return network_.cost_per_image(); }

 private:
  const Network& network_;
  moe::RoutingOrders orders_;
};

}  // namespace train
