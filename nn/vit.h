#pragma once

#include <vector>

#include "nn/layers.h"

namespace nn {

enum class Pool : uint8_t { kToken, kMean };  // class token, or mean over patches (no class token)

// Sizes of a vision transformer (spec section 1). Named ones: named_vit().
struct VitConfig {
  int64_t image_size = 32, channels = 3, patch = 4, classes = 10;
  int64_t width = 192, mlp = 768, heads = 3, layers = 8;
  bool pre_logits = false;  // a dense layer and tanh before the head (published pre-training)
  Pool pool = Pool::kToken;
  engine::GeluForm gelu = engine::GeluForm::kTanh;

  int64_t patches() const { return (image_size / patch) * (image_size / patch); }
  int64_t tokens() const { return patches() + (pool == Pool::kToken ? 1 : 0); }
  // Error(kValue) if a size is not positive, patch does not divide image_size or heads width.
  void check() const;
};

// width, mlp, heads and layers of "T" (the PRC fork's), "S", "B", "L", "H" (vmoe:
// configs/vmoe_paper/common.py; this S is not the usual 384-wide one). Error(kValue) else.
VitConfig named_vit(std::string_view size);

// Images to tokens: patch embedding (LeCun normal), class token (zeros) in front, learned
// positions N(0, 0.02^2) added once. (B, C, S, S) -> (B, T, width), of the images' dtype; in bf16
// on CUDA stored in bf16 (engine/core/stored.h), as is all that is made of it up to the head.
class VitStem {
 public:
  explicit VitStem(const VitConfig& config);
  engine::Tensor forward(Forward& f, const engine::Tensor& images) const;
  void visit(ParamVisitor& v);

 private:
  VitConfig config_;
  Linear patch_;
  Parameter class_token_, position_;
};

// One dense pre-norm block: x += attention(norm1(x)); x += mlp(norm2(x)).
class TransformerBlock {
 public:
  explicit TransformerBlock(const VitConfig& config)
      : norm1_(config.width),
        attention_(config.width, config.heads),
        norm2_(config.width),
        mlp_(config.width, config.mlp, config.gelu) {}
  engine::Tensor forward(Forward& f, const engine::Tensor& x) const;
  void visit(ParamVisitor& v);

 private:
  LayerNorm norm1_;
  SelfAttention attention_;
  LayerNorm norm2_;
  Mlp mlp_;
};

// Tokens to logits: final norm of every token, pooling, optional pre_logits + tanh, output layer
// with zero kernel and bias -ln(classes). (B, T, width) -> (B, classes). The norm is per token, so
// of the class token alone it is taken after the selection. Of tokens stored in bf16 the pooled one
// is widened: logits are f32.
class VitHead {
 public:
  explicit VitHead(const VitConfig& config);
  engine::Tensor forward(Forward& f, const engine::Tensor& x) const;
  void visit(ParamVisitor& v);

 private:
  VitConfig config_;
  LayerNorm norm_;
  Linear pre_logits_, output_;
};

// A dense vision transformer. (B, C, S, S) -> (B, classes)
class Vit {
 public:
  explicit Vit(const VitConfig& config);
  engine::Tensor forward(Forward& f, const engine::Tensor& images) const;
  void visit(ParamVisitor& v);

 private:
  VitStem stem_;
  std::vector<TransformerBlock> blocks_;
  VitHead head_;
};

}  // namespace nn
