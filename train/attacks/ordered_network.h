#pragma once

#include <string>
#include <vector>

#include "moe/routing.h"
#include "train/network.h"

namespace train {

// A network whose MoE layers do as they are told: what is in orders() at the time of a pass.
class OrderedNetwork final : public Network {
 public:
  explicit OrderedNetwork(const Network& network) : network_(network) {}
  std::vector<moe::LayerOrder>& orders() { return orders_.layers; }

  void forward(nn::Forward& f, const engine::Tensor& images, moe::ModelOutput& out) const override {
    f.orders = &orders_;
    network_.forward(f, images, out);
    f.orders = nullptr;
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
