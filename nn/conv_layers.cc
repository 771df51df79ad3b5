#include "nn/conv_layers.h"

#include <cmath>

#include "engine/ops/conv2d.h"

namespace nn {

using engine::Tensor;

ConvSpec kaiming_conv(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding) {
  ConvSpec spec{in, out, kernel, stride, padding};
  spec.init = normal(std::sqrt(2.0 / static_cast<double>(spec.fan_out())));
  return spec;
}

Tensor Conv2d::forward(Forward& f, const Tensor& x) const {
  return engine::conv2d(x, weight_.on(f), {}, {spec_.stride, spec_.padding, f.precision});
}

void Conv2d::visit(ParamVisitor& v) {
  v.parameter_named("weight", weight_,
                    {.shape = {spec_.kernel, spec_.kernel, spec_.in, spec_.out},
                     .init = spec_.init,
                     .kernel = true});
}

void Conv2d::add_cost(PictureSize& size, Cost& cost) const {
  const auto after = [this](int64_t side) {
    return (side + 2 * spec_.padding - spec_.kernel) / spec_.stride + 1;
  };
  size = {after(size.h), after(size.w)};
  const int64_t products = size.pixels() * spec_.fan_in() * spec_.out;
  cost.active += products;
  cost.all += products;
  cost.kept += 2 * size.pixels() * spec_.out;  // what comes out, and what the norm makes of it
}

Tensor BatchNorm::forward(Forward& f, const Tensor& x, const engine::NormTail& tail) const {
  constexpr double kMomentum = 0.1, kEps = 1e-5;
  const engine::RunningStatistics running{running_mean_.value, running_var_.value};
  if (f.mode == Mode::kEval) {
    return engine::batch_norm_fixed(x, weight_.on(f), bias_.on(f), running, kEps, tail);
  }
  return engine::batch_norm(x, weight_.on(f), bias_.on(f), f.replay ? nullptr : &running, kMomentum,
                            kEps, tail);
}

void BatchNorm::visit(ParamVisitor& v) {
  const engine::Shape shape{channels_};
  v.parameter_named("weight", weight_, {.shape = shape, .init = ones()});
  v.parameter_named("bias", bias_, {.shape = shape, .init = zeros()});
  v.parameter_named("running_mean", running_mean_,
                    {.shape = shape, .init = zeros(), .trainable = false});
  v.parameter_named("running_var", running_var_,
                    {.shape = shape, .init = ones(), .trainable = false});
}

}  // namespace nn
