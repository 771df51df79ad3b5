#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "data/loader.h"
#include "tests/train/small_model.h"
#include "train/evaluate.h"
#include "train/model.h"

namespace train::test {

// A data set with other labels: with a model's own guesses, it starts with every image right.
class Guessed final : public data::Dataset {
 public:
  Guessed(const data::Dataset& base, std::vector<int32_t> labels)
      : base_(base), labels_(std::move(labels)) {}
  const data::Info& info() const override { return base_.info(); }
  int64_t size() const override { return base_.size(); }
  int64_t label(int64_t i) const override { return labels_[static_cast<size_t>(i)]; }
  void read(int64_t i, data::ImageU8& out) const override { base_.read(i, out); }

 private:
  const data::Dataset& base_;
  std::vector<int32_t> labels_;
};

// The class that a model gives each test image.
inline std::vector<int32_t> guesses(const Network& network, const Config& config,
                                    const data::Dataset& set) {
  std::vector<int32_t> labels;
  Inference inference(network);
  data::Loader loader = data::Loader::evaluation(set, evaluation_loader(config));
  while (const data::Batch* batch = loader.next()) {
    const float* logits = inference.run(pixels_of(*batch, config)).logits.data<const float>();
    for (int64_t i = 0; i < batch->views; ++i) {
      labels.push_back(predicted_class(logits + i * config.model.classes, config.model.classes));
    }
  }
  return labels;
}

}  // namespace train::test
