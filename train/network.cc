#include "train/network.h"

#include <algorithm>

namespace train {

using engine::Tensor;

namespace {

engine::Precision precision_of(const Config& config) {
  const std::string& name = config.train.precision;
  return name == "bf16"   ? engine::Precision::kBf16
         : name == "tf32" ? engine::Precision::kTf32
                          : engine::Precision::kF32;
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
  bool chooses_experts() const override {
    return has_experts() && vmoe_.config().moe.chooser != moe::Chooser::kSoft;
  }
  std::vector<std::string> moe_layer_names() const override {
    std::vector<std::string> names;
    for (const int64_t b : vmoe_.config().moe_layers) names.push_back("block " + std::to_string(b));
    return names;
  }
  nn::Cost cost_per_image() const override { return moe::cost_per_image(vmoe_.config()); }

 private:
  moe::Vmoe vmoe_;
};

class ResnetNetwork final : public Network {
 public:
  explicit ResnetNetwork(const Config& config)
      : resnet_(resnet_config(config), image_moe_places(config), image_moe_config(config)),
        size_{config.model.image_size, config.model.image_size},
        precision_(precision_of(config)) {}
  void forward(nn::Forward& f, const Tensor& images, moe::ModelOutput& out) const override {
    resnet_.forward(f, images, out);
  }
  void visit(nn::ParamVisitor& v) override { resnet_.visit(v); }
  engine::Precision precision() const override { return precision_; }
  bool has_experts() const override { return !resnet_.moe_paths().empty(); }
  bool chooses_experts() const override { return has_experts(); }
  std::vector<std::string> moe_layer_names() const override { return resnet_.moe_paths(); }
  int64_t dependent_images() const override { return 0; }
  nn::Cost cost_per_image() const override { return resnet_.cost(size_); }

 private:
  moe::MoeResnet resnet_;
  nn::PictureSize size_;
  engine::Precision precision_;
};

}  // namespace

bool is_vit(const Config& config) { return config.model.kind == "vit"; }

int64_t routed_patch(const Config& config) {
  return is_vit(config) ? config.model.patch : config.model.image_size / config.image_moe.grid;
}

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

moe::ImageMoePlaces image_moe_places(const Config& config) {
  using Unit = moe::ImageMoePlaces::Unit;
  const std::string& text = config.moe.layers;
  if (text == "none") return {};
  const size_t space = text.find(' ');
  const std::string unit = text.substr(0, space);
  engine::check(space != std::string::npos && space + 1 < text.size() &&
                    (unit == "blocks" || unit == "convs"),
                engine::ErrorKind::kValue, "moe.layers = \"", text, "\", but model.kind is ",
                config.model.kind,
                ": write none, \"blocks PATH\" or \"convs PATH\", such as \"blocks layer4\"");
  return {unit == "blocks" ? Unit::kBlocks : Unit::kConvs, text.substr(space + 1)};
}

moe::ImageMoeConfig image_moe_config(const Config& config) {
  using Kind = moe::ImageRouterKind;
  const Config::ImageMoe& i = config.image_moe;
  moe::ImageMoeConfig out;
  out.experts = config.moe.experts;
  out.top_k = config.moe.top_k;
  out.router = i.router == "conv-gap"         ? Kind::kConvGap
               : i.router == "two-conv-gap"   ? Kind::kTwoConvGap
               : i.router == "random"         ? Kind::kRandom
               : i.router == "first-channels" ? Kind::kFirstChannels
                                              : Kind::kGapFc;
  out.weight = i.weight == "straight-through" ? moe::GateWeight::kStraightThrough
               : i.weight == "plain"          ? moe::GateWeight::kPlain
                                              : moe::GateWeight::kNormalised;
  out.noisy_selection = i.noisy_selection == "auto" ? i.balance != "none" && i.balance != "entropy"
                                                    : i.noisy_selection == "on";
  out.capacity_factor = config.moe.dispatch == "capacity" ? config.moe.capacity_factor : 0;
  out.grid = i.grid;
  return out;
}

moe::MoeResnet build_resnet(const Config& config) {
  nn::ResnetConfig sizes = resnet_config(config);
  sizes.channels = std::max<int64_t>(1, sizes.channels);
  sizes.classes = std::max<int64_t>(1, sizes.classes);
  return {sizes, image_moe_places(config), image_moe_config(config)};
}

std::unique_ptr<Network> build_network(const Config& config) {
  if (is_vit(config)) return std::make_unique<VmoeNetwork>(vmoe_config(config));
  return std::make_unique<ResnetNetwork>(config);
}

}  // namespace train
