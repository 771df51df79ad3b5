#include "moe/cnn/moe_resnet.h"

#include <cmath>
#include <utility>

namespace moe {

using Unit = ImageMoePlaces::Unit;

namespace {

// Layers of an expert: as elsewhere, but with weights of another start.
class ExpertMaker final : public nn::LayerMaker {
 public:
  std::unique_ptr<nn::Layer> conv(const std::string&, const nn::ConvSpec& spec) const override {
    nn::ConvSpec own = spec;
    own.init = nn::normal(std::sqrt(2 / static_cast<double>(spec.fan_in())));
    return std::make_unique<nn::Conv2d>(own);
  }
};

// Puts mixtures where they belong and notes their paths in `made`; all that were asked about in
// `seen`.
class MixtureMaker final : public nn::LayerMaker {
 public:
  MixtureMaker(const ImageMoePlaces& places, const ImageMoeConfig& moe,
               std::vector<std::string>& made, std::vector<std::string>& seen)
      : places_(places), moe_(moe), made_(made), seen_(seen) {}

  std::unique_ptr<nn::Layer> conv(const std::string& path,
                                  const nn::ConvSpec& spec) const override {
    if (!replaces(Unit::kConvs, path)) return LayerMaker::conv(path, spec);
    return mixture(path, {spec.in, spec.out, spec.stride, false},
                   [&](const ExpertMaker& maker) { return maker.conv(path, spec); });
  }
  std::unique_ptr<nn::Layer> block(const std::string& path,
                                   const nn::BlockSpec& spec) const override {
    if (!replaces(Unit::kBlocks, path)) return LayerMaker::block(path, spec);
    return mixture(path, {spec.in, spec.out, spec.stride, true}, [&](const ExpertMaker& maker) {
      return std::make_unique<nn::ResidualBlock>(path, spec, maker);
    });
  }

 private:
  bool replaces(Unit unit, const std::string& path) const {
    if (unit != places_.unit) return false;
    seen_.push_back(path);
    if (path.find(places_.path) == std::string::npos) return false;
    made_.push_back(path);
    return moe_.experts > 1;
  }
  template <class MakeExpert>
  std::unique_ptr<nn::Layer> mixture(const std::string& path, const ImageMoe::Sizes& sizes,
                                     MakeExpert&& make) const {
    std::vector<std::unique_ptr<nn::Layer>> experts;
    for (int64_t e = 0; e < moe_.experts; ++e) experts.push_back(make(ExpertMaker()));
    try {
      return std::make_unique<ImageMoe>(static_cast<int64_t>(made_.size()) - 1, path, sizes, moe_,
                                        std::move(experts));
    } catch (const engine::Error& error) {
      engine::fail(error.kind(), path, ": ", error.message());
    }
  }

  const ImageMoePlaces& places_;
  const ImageMoeConfig& moe_;
  std::vector<std::string>&made_, &seen_;
};

std::string listed(const std::vector<std::string>& paths) {
  std::string text;
  for (const std::string& path : paths) text += (text.empty() ? "" : ", ") + path;
  return text;
}

}  // namespace

MoeResnet::MoeResnet(const nn::ResnetConfig& config, const ImageMoePlaces& places,
                     const ImageMoeConfig& moe) {
  std::vector<std::string> seen;
  resnet_ = std::make_unique<nn::Resnet>(config, MixtureMaker(places, moe, paths_, seen));
  engine::check(places.unit == Unit::kNone || !paths_.empty(), engine::ErrorKind::kValue, "no ",
                places.unit == Unit::kBlocks ? "block" : "convolution", " of the network has \"",
                places.path, "\" in its path; there are ", listed(seen));
  if (moe.experts == 1) paths_.clear();
}

void MoeResnet::forward(nn::Forward& f, const engine::Tensor& images, ModelOutput& out) const {
  out.routings.resize(paths_.size());
  out.parts.resize(paths_.size());
  nn::Reports* const before = std::exchange(f.reports, &out);
  out.logits = resnet_->forward(f, images);
  f.reports = before;
}

}  // namespace moe
