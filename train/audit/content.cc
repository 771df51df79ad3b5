#include "train/audit/content.h"

#include "train/audit/information.h"
#include "train/network.h"

namespace train {

std::vector<uint8_t> parts_of_patches(const std::vector<uint8_t>& pixels, int64_t size,
                                      int64_t patch) {
  const int64_t grid = size / patch;
  std::vector<uint8_t> parts(static_cast<size_t>(grid * grid));
  for (int64_t p = 0; p < grid * grid; ++p) {
    const int64_t corner = (p / grid * size + p % grid) * patch;
    uint8_t part = pixels[static_cast<size_t>(corner)];
    for (int64_t i = 0; i < patch * patch; ++i) {
      const uint8_t pixel = pixels[static_cast<size_t>(corner + i / patch * size + i % patch)];
      if (pixel != part) part = ContentCounter::kEdge;
    }
    parts[static_cast<size_t>(p)] = part;
  }
  return parts;
}

bool sees_parts(const Config& config, const data::Info& info) {
  const int64_t size = config.model.image_size;
  return info.height == size && info.width == size && config.eval.shorter == 0;
}

ContentCounter::ContentCounter(const Config& config, const data::Dataset& dataset)
    : dataset_(dataset),
      classes_(config.model.classes),
      experts_(config.moe.experts),
      size_(config.model.image_size),
      patch_(routed_patch(config)),
      knows_parts_(sees_parts(config, dataset.info()) && dataset.size() > 0 &&
                   dataset.parts(0, pixels_)) {
  const size_t layers = moe_layer_indices(config).size();
  class_expert_.assign(layers, std::vector<int64_t>(static_cast<size_t>(classes_ * experts_)));
  part_expert_.assign(layers, std::vector<int64_t>(knows_parts_ ? kParts * experts_ : 0));
}

void ContentCounter::add(const data::Batch& batch, const NoiseSweep::Rows& rows) {
  const int64_t patches = static_cast<int64_t>(rows.flat.size()) / batch.views;
  std::vector<uint8_t> parts;
  for (int64_t b = 0; b < batch.views; ++b) {
    if (knows_parts_) {
      dataset_.parts(batch.samples[b], pixels_);
      parts = parts_of_patches(pixels_, size_, patch_);
    }
    for (size_t l = 0; l < class_expert_.size(); ++l) {
      for (int64_t p = 0; p < patches; ++p) {
        if (rows.flat[b * patches + p] != 0) continue;
        const int32_t expert = rows.top1[l][b * patches + p];
        ++class_expert_[l][batch.labels[b] * experts_ + expert];
        if (knows_parts_) ++part_expert_[l][parts[p] * experts_ + expert];
      }
    }
  }
}

void ContentCounter::fill(size_t index, LayerFigures& figures) const {
  const std::vector<int64_t>&classes = class_expert_[index], &parts = part_expert_[index];
  figures.class_expert.assign(classes.begin(), classes.end());
  figures.class_information = mutual_information(classes, experts_);
  figures.part_expert.assign(parts.begin(), parts.end());
  figures.part_information = mutual_information(parts, experts_);
}

}  // namespace train
