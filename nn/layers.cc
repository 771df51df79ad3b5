#include "nn/layers.h"

#include "engine/ops/attention.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/linear.h"

namespace nn {

using engine::Tensor;

Tensor Linear::forward(Forward& f, const Tensor& x) const {
  return engine::linear(x, weight_.on(f), bias_.on(f), {.precision = f.precision});
}

Tensor Linear::forward_gelu(Forward& f, const Tensor& x, engine::GeluForm form) const {
  return engine::linear(x, weight_.on(f), bias_.on(f),
                        {.gelu = true, .form = form, .precision = f.precision});
}

Tensor Linear::forward_add(Forward& f, const Tensor& x, const Tensor& residual) const {
  return engine::linear(
      x, weight_.on(f), bias_.on(f),
      {.residual = residual.defined() ? &residual : nullptr, .precision = f.precision});
}

void Linear::visit(ParamVisitor& v) {
  v.parameter_named("weight", weight_,
                    {.shape = {in_, out_}, .init = weight_init_, .kernel = true});
  v.parameter_named("bias", bias_, {.shape = {out_}, .init = bias_init_});
}

Tensor LayerNorm::forward(Forward& f, const Tensor& x) const {
  return engine::layer_norm(x, scale_.on(f), bias_.on(f));
}

void LayerNorm::visit(ParamVisitor& v) {
  v.parameter_named("scale", scale_, {.shape = {width_}, .init = ones()});
  v.parameter_named("bias", bias_, {.shape = {width_}, .init = zeros()});
}

Mlp::Mlp(int64_t width, int64_t hidden, engine::GeluForm form)
    : form_(form),
      up_(width, hidden, xavier_uniform(width, hidden), normal(1e-6)),
      down_(hidden, width, xavier_uniform(hidden, width), normal(1e-6)) {}

Tensor Mlp::forward(Forward& f, const Tensor& x, const Tensor& residual) const {
  return down_.forward_add(f, up_.forward_gelu(f, x, form_), residual);
}

void Mlp::visit(ParamVisitor& v) {
  v.child("up", up_);
  v.child("down", down_);
}

SelfAttention::SelfAttention(int64_t width, int64_t heads)
    : heads_(heads),
      qkv_(width, 3 * width, xavier_uniform(width, width)),
      out_(width, width, xavier_uniform(width, width)) {}

Tensor SelfAttention::forward(Forward& f, const Tensor& x, const Tensor& residual) const {
  return out_.forward_add(f, engine::attention(qkv_.forward(f, x), heads_, f.precision), residual);
}

void SelfAttention::visit(ParamVisitor& v) {
  v.child("qkv", qkv_);
  v.child("out", out_);
}

}  // namespace nn
