#pragma once

#include "engine/ops/batch_norm.h"
#include "nn/layer.h"

namespace nn {

// Sizes of a convolution without bias, and how its weights start.
struct ConvSpec {
  int64_t in, out, kernel, stride = 1, padding = 0;
  Init init = {};

  int64_t fan_in() const { return in * kernel * kernel; }
  int64_t fan_out() const { return out * kernel * kernel; }
};
// Kaiming normal of fan-out for ReLU: N(0, 2 / (out K^2)), as torchvision's ResNets start.
ConvSpec kaiming_conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1,
                      int64_t padding = 0);

// engine::conv2d. "weight" (K, K, in, out). (B, H, W, in) -> (B, H', W', out)
class Conv2d final : public Layer {
 public:
  explicit Conv2d(const ConvSpec& spec) : spec_(spec) {}
  engine::Tensor forward(Forward& f, const engine::Tensor& x) const override;
  void visit(ParamVisitor& v) override;
  void add_cost(PictureSize& size, Cost& cost) const override;

 private:
  ConvSpec spec_;
  Parameter weight_;
};

// engine::batch_norm, eps 1e-5. "weight" ones, "bias" zeros; "running_mean" zeros and
// "running_var" ones are statistics: visited, saved, never optimised. In training mode the batch's
// statistics are used and the running ones move by 0.1 towards them (not in a replayed segment);
// in evaluation mode the running ones are used.
class BatchNorm {
 public:
  explicit BatchNorm(int64_t channels) : channels_(channels) {}
  engine::Tensor forward(Forward& f, const engine::Tensor& x,
                         const engine::NormTail& tail = {}) const;
  void visit(ParamVisitor& v);

 private:
  int64_t channels_;
  Parameter weight_, bias_, running_mean_, running_var_;
};

}  // namespace nn
