#pragma once

#include <memory>
#include <string>
#include <vector>

#include "moe/cnn/image_moe.h"
#include "nn/resnet.h"

namespace moe {

// Which layers of a residual network become mixtures (spec robust-sparse-moes 2.1): all blocks
// (BlockMoE) or all convolutions (ConvMoE, 1x1 shortcuts and the stem among them) whose path
// contains `path`. "layer4" takes the last stage, "layer4.1" one block.
struct ImageMoePlaces {
  enum class Unit : uint8_t { kNone, kBlocks, kConvs };
  Unit unit = Unit::kNone;
  std::string path = "layer4";
};

// A residual network with mixtures of experts in the place of some of its layers. Each has a router
// of its own and N experts, which start as Kaiming normal of fan-in, N(0, 2 / (in K^2)), batch
// norms as ever. One expert is no mixture: then the layer itself stays. Names:
// "layer4.1.router.weight", "layer4.1.experts.0.conv1.weight".
class MoeResnet {
 public:
  // Error(kValue) where no layer's path contains `path`: names those there are.
  MoeResnet(const nn::ResnetConfig& config, const ImageMoePlaces& places,
            const ImageMoeConfig& moe);
  // images (B, C, H, W). In training mode f.sample_ids must name the B images where selection is
  // noisy.
  void forward(nn::Forward& f, const engine::Tensor& images, ModelOutput& out) const;
  void visit(nn::ParamVisitor& v) { resnet_->visit(v); }
  // Of one image of that size.
  nn::Cost cost(nn::PictureSize size) const { return resnet_->cost(size); }
  // Of the mixtures, by number.
  const std::vector<std::string>& moe_paths() const { return paths_; }

 private:
  std::vector<std::string> paths_;
  std::unique_ptr<nn::Resnet> resnet_;
};

}  // namespace moe
