#include "train/mix.h"

#include <algorithm>
#include <cmath>

namespace train {

using engine::ImageMix;
using engine::Tensor;

namespace {

// log of a Gamma(alpha, 1) variate. Below 1: Gamma(alpha) is Gamma(alpha + 1) U^(1/alpha).
double log_gamma_variate(double alpha, engine::RngStream& rng) {
  double boost = 0;
  if (alpha < 1) {
    boost = std::log(rng.uniform()) / alpha;
    alpha += 1;
  }
  const double d = alpha - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = rng.normal(), root = 1 + c * x, u = rng.uniform();
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(u) < 0.5 * x * x + d * (1 - v + std::log(v))) return boost + std::log(d * v);
  }
}

}  // namespace

double draw_beta(double alpha, engine::RngStream& rng) {
  const double first = log_gamma_variate(alpha, rng), second = log_gamma_variate(alpha, rng);
  return 1 / (1 + std::exp(second - first));
}

Mixer::Mixer(const Config& config)
    : mixup_(config.augment.mixup),
      cutmix_(config.augment.cutmix),
      cutmix_share_(mixup_ > 0 ? config.augment.cutmix_share : 1),
      smoothing_(config.train.label_smoothing),
      several_(!config.data.multi_labels.empty()),
      granularity_(config.augment.mix_granularity),
      part_(config.augment.mix_images),
      stride_(config.data.two_view ? 2 : 1),
      side_(config.model.image_size),
      classes_(config.model.classes),
      seed_(static_cast<uint64_t>(config.train.seed)) {
  if (!softens()) return;
  drawn_.resize(static_cast<size_t>(config.train.batch));
  share_.resize(drawn_.size());
}

// Everything of the draw but the partner; `share` is what is seen of the image itself.
ImageMix Mixer::draw_one(engine::RngKey key, float& share) const {
  engine::RngStream rng(key);
  ImageMix mix;
  const bool cut = cutmix_ > 0 && rng.uniform() < cutmix_share_;
  const double lambda = draw_beta(cut ? cutmix_ : mixup_, rng);
  if (!cut) {
    mix.own = share = static_cast<float>(std::max(lambda, 1 - lambda));
    return mix;
  }
  const auto size = static_cast<int64_t>(static_cast<double>(side_) * std::sqrt(1 - lambda));
  const int64_t centre_y = rng.integer(0, side_), centre_x = rng.integer(0, side_);
  mix.y = std::max<int64_t>(0, centre_y - size / 2);
  mix.x = std::max<int64_t>(0, centre_x - size / 2);
  mix.height = std::min(side_, centre_y + size / 2) - mix.y;
  mix.width = std::min(side_, centre_x + size / 2) - mix.x;
  share = 1 - static_cast<float>(mix.height * mix.width) / static_cast<float>(side_ * side_);
  return mix;
}

void Mixer::draw(int64_t step, int64_t views) {
  engine::check(views <= static_cast<int64_t>(drawn_.size()), engine::ErrorKind::kInternal,
                "mixer: ", views, " views for a batch of ", drawn_.size());
  views_ = static_cast<size_t>(views);
  const engine::RngKey key =
      engine::RngKey(seed_, engine::Purpose::kMix).with(static_cast<uint64_t>(step));
  const int64_t part = part_ > 0 ? part_ : views;
  uint64_t last = ~uint64_t{0};
  for (int64_t n = 0; n < views; ++n) {
    const int64_t begin = n / part * part, size = std::min(part, views - begin);
    const auto drawer = static_cast<uint64_t>(granularity_ == "batch"    ? 0
                                              : granularity_ == "device" ? n / part
                                                                         : n / stride_);
    const auto i = static_cast<size_t>(n);
    if (drawer != last) {
      drawn_[i] = mixes() ? draw_one(key.with(drawer), share_[i]) : ImageMix{};
      if (!mixes()) share_[i] = 1;
    } else {
      drawn_[i] = drawn_[i - 1];
      share_[i] = share_[i - 1];
    }
    last = drawer;
    drawn_[i].partner = begin + (n - begin + stride_) % size;
  }
}

Tensor Mixer::targets(engine::StepArena& arena, const ViewLabels& labels, int64_t begin,
                      int64_t end) const {
  const Tensor out = arena.empty({end - begin, classes_}, engine::Dtype::kF32);
  const auto off = static_cast<float>(smoothing_ / static_cast<double>(classes_));
  const auto on = static_cast<float>(1 - smoothing_);
  for (int64_t n = begin; n < end; ++n) {
    float* row = out.data<float>() + (n - begin) * classes_;
    std::fill_n(row, classes_, off);
    const float share = share_[static_cast<size_t>(n)];
    const int64_t partner = drawn_[static_cast<size_t>(n)].partner;
    labels.add(n, on * share, row);
    labels.add(partner, on * (1 - share), row);
  }
  return out;
}

}  // namespace train
