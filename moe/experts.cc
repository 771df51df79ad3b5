#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "moe/moe_layer.h"

namespace moe {

using engine::Tensor;

Experts::Experts(int64_t width, int64_t hidden, const MoeConfig& config, engine::GeluForm form)
    : width_(width), hidden_(hidden), config_(config), form_(form) {}

Tensor Experts::forward(nn::Forward& f, const Tensor& xs, const Tensor& offset,
                        const Tensor& hidden_mask, const Tensor& output_mask) const {
  Tensor h = engine::grouped_linear(xs, up_weight_.on(f), up_bias_.on(f), offset,
                                    {.gelu = true, .form = form_});
  if (hidden_mask.defined()) h = engine::multiply(h, f.tape.input(hidden_mask));
  Tensor y = engine::grouped_linear(h, down_weight_.on(f), down_bias_.on(f), offset);
  if (output_mask.defined()) y = engine::multiply(y, f.tape.input(output_mask));
  return y;
}

void Experts::visit(nn::ParamVisitor& v) {
  const int64_t e = config_.experts;
  const auto init = [&](nn::Init one) {
    one.copies = config_.identical_experts ? e : 1;
    return one;
  };
  v.parameter_named("up.weight", up_weight_,
                    {.shape = {e, width_, hidden_},
                     .init = init(nn::xavier_uniform(width_, hidden_)),
                     .kernel = true});
  v.parameter_named("up.bias", up_bias_, {.shape = {e, hidden_}, .init = init(nn::normal(1e-6))});
  v.parameter_named("down.weight", down_weight_,
                    {.shape = {e, hidden_, width_},
                     .init = init(nn::xavier_uniform(hidden_, width_)),
                     .kernel = true});
  v.parameter_named("down.bias", down_bias_,
                    {.shape = {e, width_}, .init = init(nn::normal(1e-6))});
}

}  // namespace moe
