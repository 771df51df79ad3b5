#include "nn/vit.h"

#include <cmath>
#include <string>

#include "engine/core/stored.h"
#include "engine/ops/cast.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/tokens.h"

namespace nn {

using engine::ErrorKind;
using engine::Tensor;

void VitConfig::check() const {
  const auto positive = [](const char* key, int64_t value) {
    engine::check(value > 0, ErrorKind::kValue, "model.", key, " must be positive, got ", value);
  };
  positive("image_size", image_size);
  positive("channels", channels);
  positive("patch", patch);
  positive("classes", classes);
  positive("width", width);
  positive("mlp", mlp);
  positive("heads", heads);
  positive("layers", layers);
  engine::check(image_size % patch == 0, ErrorKind::kValue, "model.patch = ", patch,
                " does not divide model.image_size = ", image_size);
  engine::check(width % heads == 0, ErrorKind::kValue, "model.heads = ", heads,
                " does not divide model.width = ", width);
}

VitConfig named_vit(std::string_view size) {
  VitConfig c;
  const auto set = [&](int64_t width, int64_t layers, int64_t mlp, int64_t heads) {
    c.width = width;
    c.layers = layers;
    c.mlp = mlp;
    c.heads = heads;
  };
  if (size == "T") {
    set(384, 8, 1024, 4);
  } else if (size == "S") {
    set(512, 8, 2048, 8);
  } else if (size == "B") {
    set(768, 12, 3072, 12);
  } else if (size == "L") {
    set(1024, 24, 4096, 16);
  } else if (size == "H") {
    set(1280, 32, 5120, 16);
  } else {
    engine::fail(ErrorKind::kValue, "no model size is called ", size, ": T, S, B, L or H");
  }
  return c;
}

VitStem::VitStem(const VitConfig& config)
    : config_(config),
      patch_(config.patch * config.patch * config.channels, config.width,
             lecun_normal(config.patch * config.patch * config.channels)) {
  config.check();
}

Tensor VitStem::forward(Forward& f, const Tensor& images) const {
  const engine::Shape expected{images.shape()[0], config_.channels, config_.image_size,
                               config_.image_size};
  engine::check(images.shape() == expected, ErrorKind::kShape, "vit: expected images ", expected,
                ", got ", images.shape());
  Tensor patches = engine::patchify(images, config_.patch);
  // What follows keeps the dtype of its input: the whole residual stream is stored as this is.
  if (f.precision == engine::Precision::kBf16 && patches.device() == engine::Device::kCuda) {
    patches = engine::cast(patches, engine::Dtype::kBF16);
  }
  return engine::embed_tokens(patch_.forward(f, patches), class_token_.on(f), position_.on(f));
}

void VitStem::visit(ParamVisitor& v) {
  v.child("patch", patch_);
  if (config_.pool == Pool::kToken) {
    v.parameter_named("class_token", class_token_, {.shape = {config_.width}, .init = zeros()});
  }
  v.parameter_named("position", position_,
                    {.shape = {config_.tokens(), config_.width}, .init = normal(0.02)});
}

Tensor TransformerBlock::forward(Forward& f, const Tensor& x) const {
  const Tensor y = attention_.forward(f, norm1_.forward(f, x), x);
  return mlp_.forward(f, norm2_.forward(f, y), y);
}

void TransformerBlock::visit(ParamVisitor& v) {
  v.child("norm1", norm1_);
  v.child("attention", attention_);
  v.child("norm2", norm2_);
  v.child("mlp", mlp_);
}

VitHead::VitHead(const VitConfig& config)
    : config_(config),
      norm_(config.width),
      pre_logits_(config.width, config.width, lecun_normal(config.width)),
      output_(config.width, config.classes, zeros(),
              constant(-std::log(static_cast<double>(config.classes)))) {}

Tensor VitHead::forward(Forward& f, const Tensor& x) const {
  const auto wide = [](const Tensor& t) { return engine::cast(t, engine::wide_dtype(t.dtype())); };
  Tensor y = config_.pool == Pool::kToken ? norm_.forward(f, wide(engine::select_token(x, 0)))
                                          : wide(engine::mean_tokens(norm_.forward(f, x)));
  if (config_.pre_logits) y = engine::tanh(pre_logits_.forward(f, y));
  return output_.forward(f, y);
}

void VitHead::visit(ParamVisitor& v) {
  v.child("norm", norm_);
  if (config_.pre_logits) v.child("pre_logits", pre_logits_);
  v.child("output", output_);
}

Vit::Vit(const VitConfig& config) : stem_(config), head_(config) {
  for (int64_t i = 0; i < config.layers; ++i) blocks_.emplace_back(config);
}

Tensor Vit::forward(Forward& f, const Tensor& images) const {
  Tensor x = stem_.forward(f, images);
  for (const TransformerBlock& block : blocks_) x = block.forward(f, x);
  return head_.forward(f, x);
}

void Vit::visit(ParamVisitor& v) {
  v.child("stem", stem_);
  for (size_t i = 0; i < blocks_.size(); ++i) v.child("blocks." + std::to_string(i), blocks_[i]);
  v.child("head", head_);
}

}  // namespace nn
