#include "train/audit/noise_path.h"

#include <algorithm>
#include <cmath>

#include "train/audit/noise_direction.h"
#include "train/model.h"
#include "train/network.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// Counts the patches of each image whose set of experts differs from `sets`, and keeps the new
// ones.
void count_changes(const moe::Routing& r, int64_t images, bool first, std::vector<int32_t>& sets,
                   std::vector<int64_t>& counts) {
  const int64_t before = r.class_token ? 1 : 0, k = r.top_k;
  sets.resize(static_cast<size_t>(images * r.tokens * k));
  counts.resize(static_cast<size_t>(images));
  std::vector<int32_t> row(static_cast<size_t>(k));
  for (int64_t i = 0; i < images * r.tokens; ++i) {
    std::copy_n(r.expert.data<const int32_t>() + i * k, k, row.begin());
    std::sort(row.begin(), row.end());
    int32_t* known = sets.data() + i * k;
    const bool patch = i % r.tokens >= before;
    if (!first && patch && !std::equal(row.begin(), row.end(), known)) ++counts[i / r.tokens];
    std::copy(row.begin(), row.end(), known);
  }
}

}  // namespace

double NoisePath::Sum::error(int64_t n) const {
  if (n < 2) return 0;
  const auto m = static_cast<double>(n);
  return std::sqrt(std::max(0.0, square - x * x / m) / (m * (m - 1)));
}

NoisePath::NoisePath(const Config& config, uint64_t seed, int64_t steps, double sigma)
    : config_(config), seed_(seed), steps_(steps), sigma_(sigma) {
  check(steps >= 1 && sigma > 0 && std::isfinite(sigma), ErrorKind::kValue, "noise path of ", steps,
        " steps to ", sigma, ": expected at least one step and a deviation above 0");
  const size_t layers = moe_layer_indices(config).size();
  changes_.resize(layers);
  sets_.resize(layers);
  counts_.resize(layers);
}

void NoisePath::look(const moe::ModelOutput& out, int64_t images, bool first) {
  const int64_t classes = out.logits.shape()[1];
  const float* logits = out.logits.data<const float>();
  for (int64_t b = 0; b < images && !first; ++b) {
    double square = 0;
    for (int64_t i = b * classes; i < (b + 1) * classes; ++i) {
      const double d = static_cast<double>(logits[i]) - static_cast<double>(logits_[i]);
      square += d * d;
    }
    step_sum_[b] += std::sqrt(square);
    step_largest_[b] = std::max(step_largest_[b], std::sqrt(square));
  }
  logits_.assign(logits, logits + images * classes);
  for (size_t l = 0; l < changes_.size(); ++l) {
    count_changes(out.routings[l], images, first, sets_[l], counts_[l]);
  }
}

void NoisePath::add(Inference& inference, const data::Batch& batch) {
  draw_directions(config_, seed_, batch, directions_);
  step_sum_.assign(static_cast<size_t>(batch.views), 0);
  step_largest_.assign(static_cast<size_t>(batch.views), 0);
  for (auto& counts : counts_) counts.assign(static_cast<size_t>(batch.views), 0);
  const Tensor clean = pixels_of(batch, config_);
  for (int64_t step = 0; step <= steps_; ++step) {
    add_noise(batch.pixels, sigma_ * static_cast<double>(step) / static_cast<double>(steps_),
              directions_, noisy_);
    look(inference.run(Tensor(noisy_.data(), clean.shape(), clean.dtype(), clean.device())),
         batch.views, step == 0);
  }
  images_ += batch.views;
  const int64_t patches = config_.model.image_size / routed_patch(config_) *
                          (config_.model.image_size / routed_patch(config_));
  for (int64_t b = 0; b < batch.views; ++b) {
    mean_step_.add(step_sum_[b] / static_cast<double>(steps_));
    largest_step_.add(step_largest_[b]);
    for (size_t l = 0; l < changes_.size(); ++l) {
      changes_[l].add(static_cast<double>(counts_[l][b]) / static_cast<double>(patches));
    }
  }
}

NoisePathFigures NoisePath::figures() const {
  NoisePathFigures f{sigma_, steps_, images_, 0, 0, 0, 0, {}, {}};
  const double n = static_cast<double>(std::max<int64_t>(1, images_));
  f.mean_logit_step = mean_step_.x / n;
  f.mean_logit_step_se = mean_step_.error(images_);
  f.largest_logit_step = largest_step_.x / n;
  f.largest_logit_step_se = largest_step_.error(images_);
  for (const Sum& changes : changes_) {
    f.set_changes.push_back(changes.x / n);
    f.set_changes_se.push_back(changes.error(images_));
  }
  return f;
}

}  // namespace train
