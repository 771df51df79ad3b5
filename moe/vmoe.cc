#include "moe/vmoe.h"

#include <algorithm>
#include <string>

namespace moe {

using engine::ErrorKind;
using engine::Tensor;

void VmoeConfig::check() const {
  vit.check();
  engine::check(stochastic_depth >= 0 && stochastic_depth < 1, ErrorKind::kValue,
                "model.stochastic_depth must lie in [0, 1), got ", stochastic_depth);
  if (!moe_layers.empty()) moe.check();
  engine::check(stochastic_depth == 0 || vit.layers > 1, ErrorKind::kValue,
                "model.stochastic_depth = ", stochastic_depth,
                " does nothing in a model of one block: its first block is never skipped");
  for (size_t i = 0; i < moe_layers.size(); ++i) {
    engine::check(moe_layers[i] >= 0 && moe_layers[i] < vit.layers, ErrorKind::kValue,
                  "moe.layers names block ", moe_layers[i], " of a model of ", vit.layers,
                  " blocks (they count from 0)");
    engine::check(i == 0 || moe_layers[i - 1] < moe_layers[i], ErrorKind::kValue,
                  "moe.layers must be increasing, got ", moe_layers[i], " after ",
                  moe_layers[i > 0 ? i - 1 : 0]);
  }
}

Vmoe::Vmoe(const VmoeConfig& config) : config_(config), stem_(config.vit), head_(config.vit) {
  config.check();
  const nn::VitConfig& vit = config.vit;
  for (int64_t i = 0; i < vit.layers; ++i) {
    const double rate = nn::stochastic_depth_of(config.stochastic_depth, i, vit.layers);
    Block block{nn::LayerNorm(vit.width),
                nn::SelfAttention(vit.width, vit.heads),
                nn::LayerNorm(vit.width),
                nullptr,
                nullptr,
                nullptr,
                "blocks." + std::to_string(i),
                {nn::StochasticDepth(rate, 2 * i), nn::StochasticDepth(rate, 2 * i + 1)}};
    const bool experts = std::ranges::find(config.moe_layers, i) != config.moe_layers.end();
    if (experts && config.moe.chooser == Chooser::kSoft) {
      block.soft =
          std::make_unique<SoftMoeLayer>(i, vit.width, vit.mlp, vit.tokens(), config.moe, vit.gelu);
    } else if (experts) {
      block.moe = std::make_unique<MoeLayer>(i, vit.width, vit.mlp, config.moe, vit.gelu);
    } else {
      block.mlp = std::make_unique<nn::Mlp>(vit.width, vit.mlp, vit.gelu);
    }
    blocks_.push_back(std::move(block));
  }
}

void Vmoe::forward(nn::Forward& f, const Tensor& images, ModelOutput& out,
                   std::span<const RoutingRandom> random) const {
  engine::check(random.empty() || random.size() == config_.moe_layers.size(), ErrorKind::kValue,
                "vmoe: random numbers for ", random.size(), " of ", config_.moe_layers.size(),
                " MoE layers");
  out.routings.resize(config_.moe_layers.size());
  size_t at = 0;
  f.tape.scope("stem");
  Tensor x = stem_.forward(f, images);
  for (const Block& block : blocks_) {
    f.tape.scope(block.name);
    const auto& [first, second] = block.depth;
    const Tensor attended =
        block.attention.forward(f, block.norm1.forward(f, x), first.residual(f, x));
    x = first.join(f, x, attended);
    const Tensor y = block.norm2.forward(f, x), residual = second.residual(f, x);
    if (block.mlp != nullptr) {
      x = second.join(f, x, block.mlp->forward(f, y, residual));
      continue;
    }
    Routing& routing = out.routings[at];
    const RoutingRandom own = random.empty() ? RoutingRandom{} : random[at];
    x = second.join(f, x,
                    block.soft != nullptr ? block.soft->forward(f, y, residual, own, routing)
                                          : block.moe->forward(f, y, residual, own, routing));
    routing.class_token = config_.vit.pool == nn::Pool::kToken;
    ++at;
  }
  f.tape.scope("head");
  out.logits = head_.forward(f, x);
}

void Vmoe::Block::visit(nn::ParamVisitor& v) {
  v.child("norm1", norm1);
  v.child("attention", attention);
  v.child("norm2", norm2);
  if (mlp != nullptr) v.child("mlp", *mlp);
  if (moe != nullptr) v.child("moe", *moe);
  if (soft != nullptr) v.child("moe", *soft);
}

void Vmoe::visit(nn::ParamVisitor& v) {
  v.child("stem", stem_);
  for (Block& block : blocks_) v.child(block.name, block);
  v.child("head", head_);
}

nn::Cost cost_per_image(const VmoeConfig& config) {
  const nn::VitConfig& c = config.vit;
  const int64_t t = c.tokens(), d = c.width;
  const int64_t attention = 4 * d * d + 2 * t * d, mlp = 2 * d * c.mlp;
  const int64_t moe_layers = static_cast<int64_t>(config.moe_layers.size());
  nn::Cost cost;
  cost.active = c.patches() * c.patch * c.patch * c.channels * d +
                t * (c.layers * attention + (c.layers - moe_layers) * mlp) + d * c.classes +
                (c.pre_logits ? d * d : 0);
  cost.all = cost.active;
  if (config.moe.chooser == Chooser::kSoft && moe_layers > 0) {
    const int64_t slots = config.moe.experts * soft_slots(config.moe, t);
    cost.active += moe_layers * slots * mlp;
    cost.all += moe_layers * slots * mlp;
    cost.routers = moe_layers * slots * 3 * t * d;  // logits, mixtures in and mixtures out
  } else {
    cost.active += moe_layers * t * slots_per_token(config.moe) * mlp;
    cost.all += moe_layers * t * config.moe.experts * mlp;
    cost.routers = moe_layers * t * d * config.moe.experts;
  }
  return cost;
}

}  // namespace moe
