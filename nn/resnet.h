#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/conv_layers.h"
#include "nn/layers.h"

namespace nn {

// Sizes of a residual block. Basic: 3x3 (stride), 3x3. Bottleneck: 1x1 to `inner`, 3x3 (stride,
// the "v1.5" of torchvision), 1x1 to `out`. The shortcut is a 1x1 convolution with batch norm where
// stride or width change, else x itself.
struct BlockSpec {
  int64_t in, inner, out, stride;
  bool bottleneck;
};

// Makes the layers of a network, by their path ("layer4.1.conv1"): where a mixture of experts
// stands in the place of a single layer.
class LayerMaker {
 public:
  virtual ~LayerMaker() = default;
  virtual std::unique_ptr<Layer> conv(const std::string& path, const ConvSpec& spec) const;
  virtual std::unique_ptr<Layer> block(const std::string& path, const BlockSpec& spec) const;
};

// relu(bn(conv(...relu(bn(conv(x))))) + shortcut(x)); names as torchvision's.
class ResidualBlock final : public Layer {
 public:
  ResidualBlock(const std::string& path, const BlockSpec& spec, const LayerMaker& maker);
  engine::Tensor forward(Forward& f, const engine::Tensor& x) const override;
  void visit(ParamVisitor& v) override;
  void add_cost(PictureSize& size, Cost& cost) const override;

 private:
  struct Normed {
    std::unique_ptr<Layer> conv;
    BatchNorm norm;
  };
  std::vector<Normed> convs_;  // conv1, bn1, ...
  std::optional<Normed> downsample_;
};

// Which residual network (rsm section 1). Named ones: named_resnet().
struct ResnetConfig {
  std::vector<int64_t> blocks = {2, 2, 2, 2};  // of layer1 ... layer4
  bool bottleneck = false;
  int64_t first_width = 64;      // channels of layer1, before a bottleneck's four-fold
  int64_t width_per_group = 64;  // a bottleneck's inner width, of 64; 128: "wide"
  // 3x3 convolution of stride 1 and no pooling at the start, for 32 px; else 7x7 of stride 2 and
  // 3x3 max-pooling of stride 2.
  bool small_inputs = true;
  int64_t channels = 3, classes = 10;
  // Error(kValue) for sizes that make no sense.
  void check() const;
};

// "resnet18", "resnet34", "resnet50", "wide-resnet50-2". Error(kValue) else.
ResnetConfig named_resnet(const std::string& name);

// A residual network: stem, four stages of 64, 128, 256 and 512 (x 4) channels (the first
// is first_width), mean over pixels,
// linear classifier. Weights start as torchvision's: convolutions Kaiming normal (fan-out), batch
// norms 1 and 0, the classifier U(+-1/sqrt(in)); a small stem, which the published code puts in the
// place of the original, U(+-1/sqrt(fan-in)).
// images (B, C, H, W) -> (B, classes)
class Resnet {
 public:
  // The maker is used here only.
  Resnet(const ResnetConfig& config, const LayerMaker& maker);
  explicit Resnet(const ResnetConfig& config) : Resnet(config, LayerMaker()) {}
  engine::Tensor forward(Forward& f, const engine::Tensor& images) const;
  void visit(ParamVisitor& v);
  // Of one image of that size.
  Cost cost(PictureSize size) const;

 private:
  struct Block {
    std::string name;  // "layer4.1"
    std::unique_ptr<Layer> layer;
  };
  ResnetConfig config_;
  std::unique_ptr<Layer> conv1_;
  BatchNorm bn1_;
  std::vector<Block> blocks_;
  Linear fc_;
};

}  // namespace nn
