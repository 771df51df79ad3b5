#include "moe/cnn/image_moe.h"

#include <cmath>
#include <string>
#include <utility>

#include "engine/ops/concat.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/rows.h"
#include "engine/ops/softmax.h"
#include "moe/dispatch.h"

namespace moe {

using engine::ErrorKind;
using engine::Tensor;

void ImageMoeConfig::check() const {
  engine::check(experts >= 2 && top_k >= 1 && top_k <= experts, ErrorKind::kValue, "a mixture of ",
                experts, " experts, ", top_k,
                " for each image: expected at least 2, and 1 to all of them");
  engine::check(capacity_factor >= 0 && std::isfinite(capacity_factor), ErrorKind::kValue,
                "a capacity factor of ", capacity_factor, ": expected 0 for none, or more");
  engine::check(weight != GateWeight::kStraightThrough || top_k == 1, ErrorKind::kValue,
                "straight-through weights are for one expert an image, not ", top_k);
}

ImageMoe::ImageMoe(int64_t number, int64_t channels, const ImageMoeConfig& config,
                   std::vector<std::unique_ptr<nn::Layer>> experts)
    : number_(number),
      config_(config),
      router_(config.router, channels, config.experts),
      experts_(std::move(experts)) {
  config.check();
  engine::check(static_cast<int64_t>(experts_.size()) == config.experts, ErrorKind::kInternal,
                "image_moe: ", experts_.size(), " layers for ", config.experts, " experts");
}

void ImageMoe::choose(nn::Forward& f, const Tensor& x, Routing& r) const {
  const bool train = f.mode == nn::Mode::kTrain;
  r = Routing{};
  r.layer = number_;
  r.images = x.shape()[0];
  r.tokens = 1;
  r.experts = config_.experts;
  r.top_k = config_.top_k;
  r.class_token = false;
  r.logits = r.noisy_logits = router_.logits(f, x);
  r.clean = r.gates = engine::softmax(r.logits);
  if (train && config_.noisy_selection) {
    r.sigma = 0.1;
    r.gates = noisy_selection(f, r.clean, number_);
  }
  if (train && config_.capacity_factor > 0) {
    r.capacity = capacity_of(r.images, r.top_k, r.experts, config_.capacity_factor, 1);
  }
  r.chosen = r.expert = choose_experts(f.tape, r.gates, r.top_k, r.capacity);
  r.weight = gate_weights(r.clean, r.chosen, config_.weight);
}

Tensor ImageMoe::forward(nn::Forward& f, const Tensor& x) const {
  auto* pass = dynamic_cast<ImageMoePass*>(f.reports);
  const auto number = static_cast<size_t>(number_);
  engine::check(pass != nullptr && number < pass->routings.size(), ErrorKind::kInternal,
                "image_moe: nobody takes what layer ", number_, " reports");
  if (const int64_t fixed = pass->fixed_experts[number]; fixed >= 0) {
    engine::check(fixed < config_.experts, ErrorKind::kValue, "there is no expert ", fixed, " of ",
                  config_.experts);
    pass->routings[number] = Routing{};
    return experts_[static_cast<size_t>(fixed)]->forward(f, x);
  }
  Routing& r = pass->routings[number];
  choose(f, x, r);
  const DispatchPlan plan = make_plan(f.tape, r.chosen, r.experts, 0, r.images);
  r.offset = plan.offset;
  const engine::Shape& s = x.shape();
  const Tensor xs = engine::gather_rows(engine::reshape(x, {s[0], s[1] * s[2] * s[3]}), plan.map);
  std::vector<Tensor>& parts = pass->parts[number];
  parts.clear();
  engine::Shape out;
  const auto* offset = plan.offset.data<const int32_t>();
  for (size_t e = 0; e < experts_.size(); ++e) {
    const int64_t begin = offset[e], end = offset[e + 1];
    if (begin == end) continue;
    const Tensor own =
        engine::reshape(engine::slice(xs, begin, end), {end - begin, s[1], s[2], s[3]});
    const Tensor y = experts_[e]->forward(f, own);
    out = y.shape();
    parts.push_back(engine::reshape(y, {end - begin, out[1] * out[2] * out[3]}));
  }
  r.outputs = engine::concat(parts);
  return engine::reshape(engine::combine_rows(r.outputs, r.weight, plan.map),
                         {s[0], out[1], out[2], out[3]});
}

void ImageMoe::visit(nn::ParamVisitor& v) {
  v.child("router", router_);
  for (size_t e = 0; e < experts_.size(); ++e)
    v.child("experts." + std::to_string(e), *experts_[e]);
}

void ImageMoe::add_cost(nn::PictureSize& size, nn::Cost& cost) const {
  cost.routers += router_.multiply_adds(size);
  nn::Cost one;
  experts_[0]->add_cost(size, one);
  cost.active += config_.top_k * one.active;
  cost.all += config_.experts * one.all;
  // What is gathered, put together and combined comes to no more than what an expert keeps.
  cost.kept += config_.top_k * (one.kept + one.kept);
}

}  // namespace moe
