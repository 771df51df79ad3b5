#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "moe/moe_layer.h"
#include "moe/soft_moe.h"
#include "nn/layer.h"
#include "nn/stochastic_depth.h"
#include "nn/vit.h"

namespace moe {

// A vision transformer whose blocks `moe_layers` (0-based) have an MoE layer in place of the
// MLP (spec section 1). Without any it is nn::Vit.
struct VmoeConfig {
  nn::VitConfig vit;
  MoeConfig moe;
  std::vector<int64_t> moe_layers;
  double stochastic_depth = 0;  // of the last block (nn::stochastic_depth_of)
  // What those who run the model are to put into nn::Forward.
  engine::Precision precision = engine::Precision::kF32;
  // Error(kValue) for sizes that do not fit, or layers outside the model, twice or unsorted.
  void check() const;
};

class Vmoe {
 public:
  explicit Vmoe(const VmoeConfig& config);

  // images (B, C, S, S). In training mode f.sample_ids must name the B images. `random`: one
  // entry per MoE layer, or empty for the layers' own random numbers.
  void forward(nn::Forward& f, const engine::Tensor& images, ModelOutput& out,
               std::span<const RoutingRandom> random = {}) const;
  void visit(nn::ParamVisitor& v);

  const VmoeConfig& config() const { return config_; }

 private:
  // x += attention(norm1(x)); x += mlp, moe or soft (norm2(x)). Exactly one of them is there.
  struct Block {
    nn::LayerNorm norm1;
    nn::SelfAttention attention;
    nn::LayerNorm norm2;
    std::unique_ptr<nn::Mlp> mlp;
    std::unique_ptr<MoeLayer> moe;
    std::unique_ptr<SoftMoeLayer> soft;
    std::string name;  // "blocks.3", for diagnosis
    std::array<nn::StochasticDepth, 2> depth;
    void visit(nn::ParamVisitor& v);
  };

  VmoeConfig config_;
  nn::VitStem stem_;
  std::vector<Block> blocks_;
  nn::VitHead head_;
};

// Multiply-adds of one forward pass of one image (products only): K experts a token, or what all
// slots of a Soft MoE layer cost, whose mixing counts as choosing. `kept` is not filled.
nn::Cost cost_per_image(const VmoeConfig& config);

}  // namespace moe
