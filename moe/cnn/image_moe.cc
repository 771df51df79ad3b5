#include "moe/cnn/image_moe.h"

#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "engine/core/device_memory.h"
#include "engine/ops/concat.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/rows.h"
#include "engine/ops/softmax.h"
#include "moe/cnn/picture_patches.h"
#include "moe/dispatch.h"
#include "moe/dispatch_kernels.h"

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
  engine::check(grid >= 1, ErrorKind::kValue, "a grid of ", grid, " patches");
}

ImageMoe::ImageMoe(int64_t number, std::string path, const Sizes& sizes,
                   const ImageMoeConfig& config, std::vector<std::unique_ptr<nn::Layer>> experts)
    : number_(number),
      path_(std::move(path)),
      sizes_(sizes),
      config_(config),
      router_(config.router, sizes.in, config.experts),
      experts_(std::move(experts)) {
  config.check();
  engine::check(static_cast<int64_t>(experts_.size()) == config.experts, ErrorKind::kInternal,
                "image_moe: ", experts_.size(), " layers for ", config.experts, " experts");
}

void ImageMoe::choose(nn::Forward& f, const Tensor& x, Routing& r) const {
  const bool train = f.mode == nn::Mode::kTrain;
  r = Routing{};
  r.layer = number_;
  r.tokens = config_.grid * config_.grid;
  r.images = x.shape()[0] / r.tokens;
  r.experts = config_.experts;
  r.top_k = config_.top_k;
  r.class_token = false;
  r.logits = r.noisy_logits = router_.logits(f, x);
  r.clean = r.gates = engine::softmax(r.logits);
  if (follow_order(f, r)) return;
  if (train && config_.noisy_selection) {
    r.sigma = 0.1;
    r.gates = noisy_selection(f, r.clean, number_);
  }
  if (train && config_.capacity_factor > 0) {
    r.capacity = capacity_of(r.images * r.tokens, r.top_k, r.experts, config_.capacity_factor, 1);
  }
  r.chosen = choose_experts(f.tape, r.gates, r.top_k, r.capacity);
  r.weight = gate_weights(r.clean, r.chosen, config_.weight);
}

Tensor ImageMoe::mix(nn::Forward& f, const Tensor& x, ModelOutput& out) const {
  Routing& r = out.routings[static_cast<size_t>(number_)];
  choose(f, x, r);
  const DispatchPlan plan = make_plan(f.tape, r.chosen, r.experts, 0, r.images * r.tokens);
  r.expert = r.chosen;
  r.offset = plan.offset;
  r.slot_of = plan.map.slot_of;
  const engine::Shape& s = x.shape();
  const Tensor xs = engine::gather_rows(engine::reshape(x, {s[0], s[1] * s[2] * s[3]}), plan.map);
  std::vector<Tensor>& parts = out.parts[static_cast<size_t>(number_)];
  parts.clear();
  engine::Shape made;
  // The one thing that a layer reads of what it computed, and waits for on a GPU: an expert is a
  // stack of layers, which have to know how many images there are.
  std::array<int32_t, kernels::kMaxExperts + 1> copy;
  const auto* offset = plan.offset.data<const int32_t>();
  if (x.device() != engine::Device::kCpu) {
    engine::device_copy(engine::Device::kCpu, copy.data(), x.device(), offset, plan.offset.bytes());
    offset = copy.data();
  }
  for (size_t e = 0; e < experts_.size(); ++e) {
    const int64_t begin = offset[e], end = offset[e + 1];
    if (begin == end) continue;
    const Tensor own =
        engine::reshape(engine::slice(xs, begin, end), {end - begin, s[1], s[2], s[3]});
    const Tensor y = experts_[e]->forward(f, own);
    made = y.shape();
    parts.push_back(engine::reshape(y, {end - begin, made[1] * made[2] * made[3]}));
  }
  r.outputs = engine::concat(parts);
  return engine::reshape(engine::combine_rows(r.outputs, r.weight, plan.map),
                         {s[0], made[1], made[2], made[3]});
}

Tensor ImageMoe::forward(nn::Forward& f, const Tensor& x) const {
  auto* out = dynamic_cast<ModelOutput*>(f.reports);
  const auto number = static_cast<size_t>(number_);
  engine::check(out != nullptr && number < out->routings.size() && number < out->parts.size(),
                ErrorKind::kInternal, "image_moe: nobody takes what layer ", number_, " reports");
  if (config_.grid == 1) return mix(f, x, *out);
  const engine::Shape& s = x.shape();
  const int64_t unit = config_.grid * sizes_.stride;
  engine::check(s[1] % unit == 0 && s[2] % unit == 0, ErrorKind::kShape, "a picture of ", s[1],
                " x ", s[2], " pixels cannot be cut into ", config_.grid, " x ", config_.grid,
                " patches for a layer of stride ", sizes_.stride);
  return join_patches(mix(f, cut_patches(x, config_.grid, sizes_.stride), *out), config_.grid);
}

void ImageMoe::visit(nn::ParamVisitor& v) {
  v.child("router", router_);
  for (size_t e = 0; e < experts_.size(); ++e)
    v.child("experts." + std::to_string(e), *experts_[e]);
}

void ImageMoe::check_picture(nn::PictureSize size) const {
  const int64_t grid = config_.grid, unit = grid * sizes_.stride;
  engine::check(grid == 1 || (size.h % unit == 0 && size.w % unit == 0), ErrorKind::kValue, path_,
                ": a picture of ", size.h, " x ", size.w, " pixels cannot be cut into ", grid,
                " x ", grid, " patches for a layer of stride ", sizes_.stride,
                ": take image_moe.grid=1, or images whose size is a multiple");
  const bool kernel = config_.router == ImageRouterKind::kConvGap && grid == 1;
  engine::check(!kernel || (size.h >= 3 && size.w >= 3), ErrorKind::kValue, path_,
                ": image_moe.router = \"conv-gap\" needs 3 x 3 pixels, but sees ", size.h, " x ",
                size.w, ": take larger images, an earlier stage or another router");
  const auto shrunk = [&](int64_t side) { return (side + sizes_.stride - 1) / sizes_.stride; };
  engine::check(!sizes_.norms || grid > 1 || shrunk(size.h) * shrunk(size.w) > 1, ErrorKind::kValue,
                path_, ": an expert that gets one image leaves its batch norms ",
                "one pixel, which has no variance: take larger images, an earlier stage or "
                "\"convs\"");
}

void ImageMoe::add_cost(nn::PictureSize& size, nn::Cost& cost) const {
  check_picture(size);
  const int64_t grid = config_.grid, patches = grid * grid;
  nn::PictureSize seen = size;
  if (grid > 1) seen = {size.h / grid + 2 * sizes_.stride, size.w / grid + 2 * sizes_.stride};
  cost.routers += patches * router_.multiply_adds(seen);
  const nn::PictureSize seen_before = seen;
  nn::Cost one;
  experts_[0]->add_cost(seen, one);
  cost.active += patches * config_.top_k * one.active;
  cost.all += patches * config_.experts * one.all;
  const int64_t given = patches * seen_before.pixels() * sizes_.in;
  const int64_t made = patches * seen.pixels() * sizes_.out;
  // Of each choice what is gathered, what its expert keeps and what is put together with others;
  // then their sum. With a grid the patches and the whole picture besides.
  cost.kept += config_.top_k * (given + patches * one.kept + made) + made;
  if (grid > 1) cost.kept += given + made;
  size = {(size.h + sizes_.stride - 1) / sizes_.stride,
          (size.w + sizes_.stride - 1) / sizes_.stride};
}

}  // namespace moe
