#pragma once

#include "engine/ops/gelu_math.h"
#include "nn/module.h"

namespace nn {

// y = x W + b.  (..., in) -> (..., out). Weight (in, out), bias (out), zeros unless said.
class Linear {
 public:
  Linear(int64_t in, int64_t out, Init weight, Init bias = zeros())
      : in_(in), out_(out), weight_init_(weight), bias_init_(bias) {}
  engine::Tensor forward(Forward& f, const engine::Tensor& x) const;
  engine::Tensor forward_gelu(Forward& f, const engine::Tensor& x, engine::GeluForm form) const;
  // y + residual. Here and below a tensor that is not defined is no residual.
  engine::Tensor forward_add(Forward& f, const engine::Tensor& x,
                             const engine::Tensor& residual) const;
  void visit(ParamVisitor& v);

 private:
  int64_t in_, out_;
  Init weight_init_, bias_init_;
  Parameter weight_, bias_;
};

// Layer normalisation over the last axis (engine::layer_norm), eps 1e-6; scale 1, bias 0.
class LayerNorm {
 public:
  explicit LayerNorm(int64_t width) : width_(width) {}
  engine::Tensor forward(Forward& f, const engine::Tensor& x) const;
  void visit(ParamVisitor& v);

 private:
  int64_t width_;
  Parameter scale_, bias_;
};

// residual + down(gelu(up(x))). Kernels Xavier uniform, biases N(0, 1e-12) (vit: models_vit.py).
class Mlp {
 public:
  Mlp(int64_t width, int64_t hidden, engine::GeluForm form);
  engine::Tensor forward(Forward& f, const engine::Tensor& x, const engine::Tensor& residual) const;
  void visit(ParamVisitor& v);

 private:
  engine::GeluForm form_;
  Linear up_, down_;
};

// residual + out(attention(qkv(x))), all projections with bias; Xavier uniform kernels with
// the fans of one projection (vmoe: nn/vit_moe.py). (B, T, width) -> (B, T, width)
class SelfAttention {
 public:
  SelfAttention(int64_t width, int64_t heads);
  engine::Tensor forward(Forward& f, const engine::Tensor& x, const engine::Tensor& residual) const;
  void visit(ParamVisitor& v);

 private:
  int64_t heads_;
  Linear qkv_, out_;
};

}  // namespace nn
