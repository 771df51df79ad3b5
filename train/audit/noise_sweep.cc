#include "train/audit/noise_sweep.h"

#include <cmath>

#include "train/audit/noise_direction.h"
#include "train/audit/pairs.h"
#include "train/audit/top_two.h"
#include "train/model.h"
#include "train/network.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

void find_top1(const moe::Routing& r, int64_t images, std::vector<int32_t>& out) {
  const int64_t before = r.class_token ? 1 : 0, patches = r.tokens - before;
  const float* clean = r.clean.data<const float>();
  out.resize(static_cast<size_t>(images * patches));
  for (int64_t i = 0; i < images * patches; ++i) {
    const int64_t row = i / patches * r.tokens + before + i % patches;
    out[i] = top_two(clean + row * r.experts, r.experts).first;
  }
}

}  // namespace

NoiseSweep::NoiseSweep(const Config& config, uint64_t seed, const std::vector<double>& sigmas)
    : config_(config),
      seed_(seed),
      layers_(static_cast<int64_t>(moe_layer_indices(config).size())),
      sigmas_{0} {
  for (const double sigma : sigmas) {
    check(sigma >= 0 && std::isfinite(sigma), ErrorKind::kValue, "noise level ", sigma,
          ": expected a standard deviation of 0 or more, where black is 0 and white is 1");
    if (sigma > 0) sigmas_.push_back(sigma);
  }
  counts_.resize(sigmas_.size());
  for (Counts& counts : counts_) counts.flips.resize(static_cast<size_t>(layers_));
  rows_.predictions.resize(sigmas_.size());
  rows_.top1.resize(sigmas_.size() * static_cast<size_t>(layers_));
}

void NoiseSweep::add(Inference& inference, const data::Batch& batch) {
  find_flat_patches(pixels_of(batch, config_), routed_patch(config_), rows_.flat);
  if (sigmas_.size() > 1) draw_directions(config_, seed_, batch, directions_);
  for (size_t level = 0; level < sigmas_.size(); ++level) add_level(level, inference, batch);
}

void NoiseSweep::add_level(size_t level, Inference& inference, const data::Batch& batch) {
  Tensor images = pixels_of(batch, config_);
  if (level > 0) {
    add_noise(batch.pixels, sigmas_[level], directions_, noisy_);
    images = Tensor(noisy_.data(), images.shape(), engine::Dtype::kF32, engine::Device::kCpu);
  }
  const moe::ModelOutput& out = inference.run(images);
  counts_[level].sum.add(out.logits, batch.labels);
  const int64_t classes = out.logits.shape()[1];
  std::vector<int32_t>& predictions = rows_.predictions[level];
  predictions.resize(static_cast<size_t>(batch.views));
  for (int64_t b = 0; b < batch.views; ++b) {
    predictions[b] = predicted_class(out.logits.data<const float>() + b * classes, classes);
  }
  for (int64_t l = 0; l < layers_; ++l) {
    find_top1(out.routings[l], batch.views, rows_.top1[level * layers_ + l]);
  }
  compare(level, batch.views);
}

void NoiseSweep::compare(size_t level, int64_t images) {
  Counts& counts = counts_[level];
  for (int64_t b = 0; b < images; ++b) {
    counts.changed += rows_.predictions[level][b] != rows_.predictions[0][b] ? 1 : 0;
  }
  const int64_t patches = static_cast<int64_t>(rows_.flat.size()) / images;
  for (int64_t l = 0; l < layers_; ++l) {
    const std::vector<int32_t>&now = rows_.top1[level * layers_ + l], &clean = rows_.top1[l];
    for (int64_t b = 0; b < images; ++b) {
      int64_t flips = 0, cases = 0;
      for (int64_t i = b * patches; i < (b + 1) * patches; ++i) {
        if (rows_.flat[i] != 0) continue;
        ++cases;
        flips += now[i] != clean[i] ? 1 : 0;
      }
      counts.flips[l].add(flips, cases);
    }
  }
}

std::vector<NoiseLevel> NoiseSweep::figures() const {
  std::vector<NoiseLevel> levels;
  for (size_t i = 0; i < sigmas_.size(); ++i) {
    const Counts& counts = counts_[i];
    const Evaluation result = counts.sum.result();
    NoiseLevel level;
    level.sigma = sigmas_[i];
    level.accuracy = result.accuracy;
    level.accuracy_se = result.accuracy_se;
    if (result.n > 0) {
      level.changed_predictions =
          static_cast<double>(counts.changed) / static_cast<double>(result.n);
    }
    level.changed_predictions_se = share_error(level.changed_predictions, result.n);
    for (const ClusteredShare& flips : counts.flips) {
      level.top1_flips.push_back(flips.share());
      level.top1_flips_se.push_back(flips.error());
    }
    levels.push_back(std::move(level));
  }
  return levels;
}

}  // namespace train
