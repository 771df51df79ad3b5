#pragma once

#include "nn/conv_layers.h"
#include "nn/layers.h"

namespace moe {

// What chooses the experts of an image (spec robust-sparse-moes 2.2), names of the published runs:
//   kGapFc          GALRN: mean over pixels, linear with bias
//   kConvGap        CGARN: 3x3 convolution without padding to N channels, mean over pixels
//   kTwoConvGap     DCGARN: 1x1 to 8 channels, batch norm, 1x1 to N channels, mean over pixels
//   kRandom         GADRN: mean over pixels, times N fixed random vectors
//   kFirstChannels  GSERN: the means of the first N channels
enum class ImageRouterKind : uint8_t { kGapFc, kConvGap, kTwoConvGap, kRandom, kFirstChannels };

// Logits (B, N) of pictures (B, H, W, C); their softmax are the scores. Convolutions and the linear
// layer start as PyTorch's do, U(+-1/sqrt(fan-in)); the random vectors are standard normal, saved
// and never optimised. Error(kValue) for kFirstChannels with more experts than channels.
class ImageRouter {
 public:
  ImageRouter(ImageRouterKind kind, int64_t channels, int64_t experts);
  engine::Tensor logits(nn::Forward& f, const engine::Tensor& x) const;
  void visit(nn::ParamVisitor& v);
  int64_t multiply_adds(nn::PictureSize size) const;

 private:
  ImageRouterKind kind_;
  int64_t channels_, experts_;
  nn::Linear linear_;
  nn::Conv2d conv_, conv1_, conv2_;
  nn::BatchNorm norm_;
  nn::Parameter vectors_;
};

}  // namespace moe
