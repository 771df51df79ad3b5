#include "moe/cnn/image_router.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/tokens.h"
#include "engine/ops/top_k.h"
#include "moe/draw_kernels.h"

namespace moe {

using engine::Tensor;

namespace {

constexpr int64_t kHidden = 8;  // channels between the two convolutions

nn::Init default_init(int64_t fan_in) {
  return nn::uniform(1 / std::sqrt(static_cast<double>(fan_in)));
}
nn::ConvSpec default_conv(int64_t in, int64_t out, int64_t kernel) {
  nn::ConvSpec spec{in, out, kernel};
  spec.init = default_init(spec.fan_in());
  return spec;
}

Tensor mean_of_pixels(const Tensor& x) {
  const engine::Shape& s = x.shape();
  return engine::mean_tokens(engine::reshape(x, {s[0], s[1] * s[2], s[3]}));
}

}  // namespace

ImageRouter::ImageRouter(ImageRouterKind kind, int64_t channels, int64_t experts)
    : kind_(kind),
      channels_(channels),
      experts_(experts),
      linear_(channels, experts, default_init(channels), default_init(channels)),
      conv_(default_conv(channels, experts, 3)),
      conv1_(default_conv(channels, kHidden, 1)),
      conv2_(default_conv(kHidden, experts, 1)),
      norm_(kHidden) {
  engine::check(kind != ImageRouterKind::kFirstChannels || experts <= channels,
                engine::ErrorKind::kValue, "a router of the first channels has ", channels,
                " channels for ", experts, " experts: take another router, or fewer experts");
}

Tensor ImageRouter::logits(nn::Forward& f, const Tensor& x) const {
  switch (kind_) {
    case ImageRouterKind::kGapFc:
      return linear_.forward(f, mean_of_pixels(x));
    case ImageRouterKind::kConvGap:
      return mean_of_pixels(conv_.forward(f, x));
    case ImageRouterKind::kTwoConvGap:
      return mean_of_pixels(conv2_.forward(f, norm_.forward(f, conv1_.forward(f, x))));
    case ImageRouterKind::kRandom:
      return engine::linear(mean_of_pixels(x), f.tape.input(vectors_.value), {});
    case ImageRouterKind::kFirstChannels:
      break;
  }
  const Tensor pooled = mean_of_pixels(x);
  const int64_t images = pooled.shape()[0];
  const Tensor index = f.tape.arena().empty({images, experts_}, engine::Dtype::kI32);
  engine::dispatch_device(index.device(), [&](auto backend) {
    kernels::put_owners(backend, index.numel(), 1, experts_, index.data<int32_t>());
  });
  return engine::pick(pooled, index);
}

void ImageRouter::visit(nn::ParamVisitor& v) {
  switch (kind_) {
    case ImageRouterKind::kGapFc:
      return linear_.visit(v);
    case ImageRouterKind::kConvGap:
      return conv_.visit(v);
    case ImageRouterKind::kTwoConvGap:
      v.child("conv1", conv1_);
      v.child("bn", norm_);
      return v.child("conv2", conv2_);
    case ImageRouterKind::kRandom:
      return v.parameter_named(
          "vectors", vectors_,
          {.shape = {channels_, experts_}, .init = nn::normal(1), .trainable = false});
    case ImageRouterKind::kFirstChannels:
      return;
  }
}

int64_t ImageRouter::multiply_adds(nn::PictureSize size) const {
  const int64_t inner = std::max<int64_t>(0, size.h - 2) * std::max<int64_t>(0, size.w - 2);
  switch (kind_) {
    case ImageRouterKind::kGapFc:
    case ImageRouterKind::kRandom:
      return channels_ * experts_;
    case ImageRouterKind::kConvGap:
      return inner * 9 * channels_ * experts_;
    case ImageRouterKind::kTwoConvGap:
      return size.pixels() * kHidden * (channels_ + experts_);
    case ImageRouterKind::kFirstChannels:
      break;
  }
  return 0;
}

}  // namespace moe
