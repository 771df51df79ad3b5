#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/dataset.h"
#include "engine/core/tensor.h"
#include "train/evaluate.h"

namespace train {

// Several right classes for each image, in JSON. Either a list of lists, as ReaL has them for
// ImageNet's validation images (Beyer et al., 2020; spec 3.6): image k, from 1, is the one whose
// name ends in k ("ILSVRC2012_val_00000017.JPEG" is 17). Or {"NAME": [class, ...], ...} with
// the names that the data set gives its images (data check --save lists them). A class is its
// number, from 0 in the order of the model's, or its name. Classes named twice count once.
class MultiLabels {
 public:
  // Error(kIo), or Error(kFormat) for a file that is no such list, or names a class that the model
  // does not have.
  MultiLabels(const std::string& path, int64_t classes,
              const std::vector<std::string>& class_names = {});

  // The right classes of image i of `set`, increasing; empty: it does not count. Error(kValue)
  // where its name is not in the file, or does not end in a number or in one beyond the list.
  const std::vector<int32_t>& of(const data::Dataset& set, int64_t i) const;

 private:
  std::string path_;
  std::vector<std::vector<int32_t>> labels_;
  std::unordered_map<std::string, size_t> by_name_;  // of an object: which of labels_
};

// Counts images whose predicted class is one of their right ones; images without any do not count.
class MultiLabelSum {
 public:
  explicit MultiLabelSum(const MultiLabels& labels) : labels_(labels) {}
  // Row r of logits (B, classes) is image samples[r] of `set`.
  void add(const engine::Tensor& logits, const data::Dataset& set,
           const std::vector<int64_t>& samples);
  int64_t n() const { return n_; }
  double accuracy() const {
    return n_ > 0 ? static_cast<double>(correct_) / static_cast<double>(n_) : 0;
  }
  double accuracy_se() const { return share_error(accuracy(), n_); }

 private:
  const MultiLabels& labels_;
  int64_t n_ = 0, correct_ = 0;
};

}  // namespace train
