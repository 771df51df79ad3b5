#include "nn/resnet.h"

#include <cmath>

#include "engine/ops/pointwise.h"
#include "engine/ops/pool.h"
#include "engine/ops/tokens.h"

namespace nn {

using engine::ErrorKind;
using engine::Tensor;

namespace {

constexpr int64_t kStages = 4, kGroup = 64;
constexpr engine::PoolOptions kStemPool{.kernel = 3, .stride = 2, .padding = 1};

int64_t expansion(const ResnetConfig& c) { return c.bottleneck ? 4 : 1; }
int64_t stage_width(const ResnetConfig& c, int64_t stage) { return c.first_width << stage; }
int64_t last_width(const ResnetConfig& c) { return stage_width(c, kStages - 1) * expansion(c); }

// PyTorch's default for layers that are not initialised otherwise.
Init default_init(int64_t fan_in) { return uniform(1 / std::sqrt(static_cast<double>(fan_in))); }

ConvSpec stem_spec(const ResnetConfig& c) {
  if (!c.small_inputs) return kaiming_conv(c.channels, c.first_width, 7, 2, 3);
  ConvSpec spec{c.channels, c.first_width, 3, 1, 1};
  spec.init = default_init(spec.fan_in());
  return spec;
}

}  // namespace

std::unique_ptr<Layer> LayerMaker::conv(const std::string&, const ConvSpec& spec) const {
  return std::make_unique<Conv2d>(spec);
}

std::unique_ptr<Layer> LayerMaker::block(const std::string& path, const BlockSpec& spec) const {
  return std::make_unique<ResidualBlock>(path, spec, *this);
}

ResidualBlock::ResidualBlock(const std::string& path, const BlockSpec& spec,
                             const LayerMaker& maker) {
  const auto add = [&](const ConvSpec& conv) {
    const std::string name = path + ".conv" + std::to_string(convs_.size() + 1);
    convs_.push_back({maker.conv(name, conv), BatchNorm(conv.out)});
  };
  if (spec.bottleneck) {
    add(kaiming_conv(spec.in, spec.inner, 1));
    add(kaiming_conv(spec.inner, spec.inner, 3, spec.stride, 1));
    add(kaiming_conv(spec.inner, spec.out, 1));
  } else {
    add(kaiming_conv(spec.in, spec.out, 3, spec.stride, 1));
    add(kaiming_conv(spec.out, spec.out, 3, 1, 1));
  }
  if (spec.stride != 1 || spec.in != spec.out) {
    downsample_.emplace(
        Normed{maker.conv(path + ".downsample.0", kaiming_conv(spec.in, spec.out, 1, spec.stride)),
               BatchNorm(spec.out)});
  }
}

Tensor ResidualBlock::forward(Forward& f, const Tensor& x) const {
  const Tensor shortcut =
      downsample_.has_value() ? downsample_->norm.forward(f, downsample_->conv->forward(f, x)) : x;
  Tensor y = x;
  for (size_t i = 0; i < convs_.size(); ++i) {
    const bool last = i + 1 == convs_.size();
    y = convs_[i].norm.forward(f, convs_[i].conv->forward(f, y),
                               {.residual = last ? &shortcut : nullptr, .relu = true});
  }
  return y;
}

void ResidualBlock::visit(ParamVisitor& v) {
  for (size_t i = 0; i < convs_.size(); ++i) {
    v.child("conv" + std::to_string(i + 1), *convs_[i].conv);
    v.child("bn" + std::to_string(i + 1), convs_[i].norm);
  }
  if (!downsample_.has_value()) return;
  v.child("downsample.0", *downsample_->conv);
  v.child("downsample.1", downsample_->norm);
}

void ResidualBlock::add_cost(PictureSize& size, Cost& cost) const {
  if (downsample_.has_value()) {
    PictureSize beside = size;
    downsample_->conv->add_cost(beside, cost);
  }
  for (const Normed& c : convs_) c.conv->add_cost(size, cost);
}

void ResnetConfig::check() const {
  engine::check(blocks.size() == kStages, ErrorKind::kValue, "a residual network has ", kStages,
                " stages, got ", blocks.size());
  for (const int64_t count : blocks) {
    engine::check(count > 0, ErrorKind::kValue, "a stage of ", count, " blocks");
  }
  engine::check(channels > 0, ErrorKind::kValue, "model.channels must be positive, got ", channels);
  engine::check(classes > 0, ErrorKind::kValue, "model.classes must be positive, got ", classes);
  engine::check(first_width > 0, ErrorKind::kValue, "a first width of ", first_width);
  engine::check(width_per_group > 0 && (bottleneck || width_per_group == kGroup), ErrorKind::kValue,
                "a width of ", width_per_group,
                " per group: 1 or more with bottlenecks, 64 without");
}

ResnetConfig named_resnet(const std::string& name) {
  ResnetConfig c;
  if (name == "resnet18") return c;
  c.blocks = {3, 4, 6, 3};
  if (name == "resnet34") return c;
  c.bottleneck = true;
  if (name == "resnet50") return c;
  c.width_per_group = 128;
  engine::check(name == "wide-resnet50-2", ErrorKind::kValue, "no residual network is called ",
                name, ": resnet18, resnet34, resnet50 or wide-resnet50-2");
  return c;
}

Resnet::Resnet(const ResnetConfig& config, const LayerMaker& maker)
    : config_(config),
      bn1_(config.first_width),
      fc_(last_width(config), config.classes, default_init(last_width(config)),
          default_init(last_width(config))) {
  config.check();
  conv1_ = maker.conv("conv1", stem_spec(config));
  int64_t in = config.first_width;
  for (int64_t stage = 0; stage < kStages; ++stage) {
    const int64_t width = stage_width(config, stage), out = width * expansion(config);
    for (int64_t i = 0; i < config.blocks[static_cast<size_t>(stage)]; ++i) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(i);
      const int64_t stride = stage > 0 && i == 0 ? 2 : 1;
      const BlockSpec spec{in, width * config.width_per_group / kGroup, out, stride,
                           config.bottleneck};
      blocks_.push_back({name, maker.block(name, spec)});
      in = out;
    }
  }
}

Tensor Resnet::forward(Forward& f, const Tensor& images) const {
  const engine::Shape& s = images.shape();
  engine::check(s.rank() == 4 && s[1] == config_.channels, ErrorKind::kShape,
                "resnet: expected images (B, ", config_.channels, ", H, W), got ", s);
  f.tape.scope("stem");
  // Channels last from here on.
  Tensor x = engine::reshape(engine::patchify(images, 1), {s[0], s[2], s[3], s[1]});
  x = bn1_.forward(f, conv1_->forward(f, x), {.relu = true});
  if (!config_.small_inputs) x = engine::max_pool2d(x, kStemPool);
  for (const Block& block : blocks_) {
    f.tape.scope(block.name);
    x = block.layer->forward(f, x);
  }
  f.tape.scope("head");
  const engine::Shape& last = x.shape();
  return fc_.forward(
      f, engine::mean_tokens(engine::reshape(x, {last[0], last[1] * last[2], last[3]})));
}

void Resnet::visit(ParamVisitor& v) {
  v.child("conv1", *conv1_);
  v.child("bn1", bn1_);
  for (Block& block : blocks_) v.child(block.name, *block.layer);
  v.child("fc", fc_);
}

Cost Resnet::cost(PictureSize size) const {
  Cost cost;
  conv1_->add_cost(size, cost);
  if (!config_.small_inputs) {
    const auto pooled = [](int64_t side) {
      return (side + 2 * kStemPool.padding - kStemPool.kernel) / kStemPool.stride + 1;
    };
    size = {pooled(size.h), pooled(size.w)};
  }
  for (const Block& block : blocks_) block.layer->add_cost(size, cost);
  const int64_t head = last_width(config_) * config_.classes;
  cost.active += head;
  cost.all += head;
  return cost;
}

}  // namespace nn
