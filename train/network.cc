#include "train/network.h"

namespace train {

using engine::Tensor;

namespace {

engine::Precision precision_of(const Config& config) {
  return config.train.precision == "bf16" ? engine::Precision::kBf16 : engine::Precision::kF32;
}

class VmoeNetwork final : public Network {
 public:
  explicit VmoeNetwork(const moe::VmoeConfig& config) : vmoe_(config) {}
  void forward(nn::Forward& f, const Tensor& images, moe::ModelOutput& out) const override {
    vmoe_.forward(f, images, out);
  }
  void visit(nn::ParamVisitor& v) override { vmoe_.visit(v); }
  engine::Precision precision() const override { return vmoe_.config().precision; }
  bool has_experts() const override { return !vmoe_.config().moe_layers.empty(); }
  int64_t dependent_images() const override {
    const moe::MoeConfig& m = vmoe_.config().moe;
    return has_experts() && m.mixes_images_at_evaluation() ? m.group_images : 0;
  }
  int64_t multiply_adds_per_image() const override {
    return moe::multiply_adds_per_image(vmoe_.config());
  }

 private:
  moe::Vmoe vmoe_;
};

class ResnetNetwork final : public Network {
 public:
  ResnetNetwork(const nn::ResnetConfig& config, int64_t size, engine::Precision precision)
      : resnet_(config), size_{size, size}, precision_(precision) {}
  void forward(nn::Forward& f, const Tensor& images, moe::ModelOutput& out) const override {
    out.logits = resnet_.forward(f, images);
  }
  void visit(nn::ParamVisitor& v) override { resnet_.visit(v); }
  engine::Precision precision() const override { return precision_; }
  bool has_experts() const override { return false; }
  int64_t dependent_images() const override { return 0; }
  int64_t multiply_adds_per_image() const override { return resnet_.cost(size_).active; }

 private:
  nn::Resnet resnet_;
  nn::PictureSize size_;
  engine::Precision precision_;
};

}  // namespace

bool is_vit(const Config& config) { return config.model.kind == "vit"; }

moe::VmoeConfig vmoe_config(const Config& config) {
  engine::check(is_vit(config), engine::ErrorKind::kValue, "this is for vision transformers, but ",
                "model.kind is ", config.model.kind);
  moe::VmoeConfig out;
  nn::VitConfig& v = out.vit;
  v.image_size = config.model.image_size;
  v.channels = config.model.channels;
  v.patch = config.model.patch;
  v.classes = config.model.classes;
  v.width = config.model.width;
  v.mlp = config.model.mlp;
  v.heads = config.model.heads;
  v.layers = config.model.layers;
  v.pre_logits = config.model.pre_logits;
  v.pool = config.model.pool == "mean" ? nn::Pool::kMean : nn::Pool::kToken;
  v.gelu = config.model.gelu == "erf" ? engine::GeluForm::kErf : engine::GeluForm::kTanh;
  moe::MoeConfig& m = out.moe;
  m.experts = config.moe.experts;
  m.top_k = config.moe.top_k;
  m.eval_top_k = config.moe.eval_top_k;
  m.chooser = config.moe.chooser == "experts" ? moe::Chooser::kExperts
              : config.moe.chooser == "soft"  ? moe::Chooser::kSoft
                                              : moe::Chooser::kTokens;
  m.noise_std = config.moe.noise_std;
  m.dispatch =
      config.moe.dispatch == "capacity" ? moe::Dispatch::kCapacity : moe::Dispatch::kDropless;
  m.capacity_factor = config.moe.capacity_factor;
  m.eval_capacity_factor = config.moe.eval_capacity_factor;
  m.capacity_multiple_of = config.moe.capacity_multiple_of;
  m.group_images = config.moe.group_images;
  m.batch_priority = config.moe.batch_priority;
  m.bf16_dispatch = config.moe.bf16_dispatch;
  m.identical_experts = config.moe.expert_init == "identical";
  m.expert_dropout = config.moe.expert_dropout;
  m.dropout_mask =
      config.moe.dropout_mask == "slot" ? moe::DropoutMask::kSlot : moe::DropoutMask::kToken;
  out.moe_layers = moe_layer_indices(config);
  out.stochastic_depth = config.model.stochastic_depth;
  out.precision = precision_of(config);
  return out;
}

nn::ResnetConfig resnet_config(const Config& config) {
  engine::check(!is_vit(config), engine::ErrorKind::kValue, "this is for residual networks, but ",
                "model.kind is ", config.model.kind);
  nn::ResnetConfig out = nn::named_resnet(config.model.kind);
  out.small_inputs = config.model.stem == "small";
  out.first_width = config.model.first_width;
  out.channels = config.model.channels;
  out.classes = config.model.classes;
  return out;
}

std::unique_ptr<Network> build_network(const Config& config) {
  if (is_vit(config)) return std::make_unique<VmoeNetwork>(vmoe_config(config));
  return std::make_unique<ResnetNetwork>(resnet_config(config), config.model.image_size,
                                         precision_of(config));
}

}  // namespace train
