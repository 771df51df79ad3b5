#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/loader.h"
#include "train/multi_labels.h"

namespace train {

// The right classes of every image of a training set that has several (data.multi_labels).
class RightClasses {
 public:
  // Of the first `images` of the set. needs_one: an image without any is Error(kValue); else it
  // belongs to no class. Error as MultiLabels::of.
  RightClasses(const MultiLabels& labels, const data::Dataset& set, int64_t images, bool needs_one);

  std::span<const int32_t> of(int64_t sample) const {
    const auto i = static_cast<size_t>(sample);
    return {classes_.data() + begin_[i], begin_[i + 1] - begin_[i]};
  }
  // Of all of them: tells whether another run had the same.
  uint32_t crc32() const;

 private:
  std::vector<size_t> begin_ = {0};  // (images + 1)
  std::vector<int32_t> classes_;
};

// What the views of a batch show: the set's label of each, or its several right classes.
class ViewLabels {
 public:
  // labels: one a view, in [0, classes).
  ViewLabels(std::span<const int32_t> labels, int64_t classes)
      : labels_(labels), classes_(classes) {}
  // several: may be null. divided: k right classes have 1/k of the weight each (softmax), instead
  // of all of it (sigmoid).
  ViewLabels(const data::Batch& batch, int64_t classes, const RightClasses* several, bool divided)
      : labels_(batch.labels.data(), static_cast<size_t>(batch.views)),
        classes_(classes),
        samples_(batch.samples),
        several_(several),
        views_per_sample_(batch.sources > 0 ? batch.views / batch.sources : 1),
        divided_(divided) {}

  // row[c] += weight for each right class of the view. Error(kValue) for a label outside [0,
  // classes).
  void add(int64_t view, float weight, float* row) const;
  bool is_right(int64_t view, int64_t predicted) const;

 private:
  std::span<const int32_t> of(int64_t view) const {
    if (several_ == nullptr) return labels_.subspan(static_cast<size_t>(view), 1);
    return several_->of(samples_[static_cast<size_t>(view / views_per_sample_)]);
  }

  std::span<const int32_t> labels_;
  int64_t classes_;
  std::span<const int64_t> samples_;
  const RightClasses* several_ = nullptr;
  int64_t views_per_sample_ = 1;
  bool divided_ = false;
};

}  // namespace train
