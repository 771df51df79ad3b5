#pragma once

#include <cstdint>
#include <vector>

#include "data/loader.h"
#include "train/audit/clustered_share.h"
#include "train/config.h"
#include "train/evaluate.h"

namespace train {

// What Gaussian noise of one strength does, on single plain views.
struct NoiseLevel {
  double sigma = 0;  // standard deviation, where black is 0 and white is 1
  double accuracy = 0, accuracy_se = 0;
  double changed_predictions = 0, changed_predictions_se = 0;  // share of images, against sigma 0
  // An entry an MoE layer: share of patches whose most probable expert is another than without
  // noise; class tokens and patches that are of one colour without noise left out.
  std::vector<double> top1_flips, top1_flips_se;
};

// Adds noise to images and compares (paper Fig. 1). An image has one direction (noise_direction.h),
// whatever the strength, so that levels differ in nothing but their strength.
class NoiseSweep {
 public:
  // What one batch gave, for a dump; reused.
  struct Rows {
    std::vector<uint8_t> flat;                      // (images * patches), of one colour
    std::vector<std::vector<int32_t>> predictions;  // a level: (images)
    std::vector<std::vector<int32_t>> top1;         // level * layers + layer: (images * patches)
  };

  // Level 0, the images as they are, always comes first. Error(kValue) for a sigma that is
  // negative or not finite.
  NoiseSweep(const Config& config, uint64_t seed, const std::vector<double>& sigmas);

  // A batch of single views.
  void add(Inference& inference, const data::Batch& batch);
  const Rows& last_rows() const { return rows_; }
  const std::vector<double>& sigmas() const { return sigmas_; }
  int64_t layers() const { return layers_; }
  std::vector<NoiseLevel> figures() const;

 private:
  struct Counts {
    EvaluationSum sum;
    int64_t changed = 0;
    std::vector<ClusteredShare> flips;  // an MoE layer
  };
  void add_level(size_t level, Inference& inference, const data::Batch& batch);
  void compare(size_t level, int64_t images);

  Config config_;
  uint64_t seed_;
  int64_t layers_;
  std::vector<double> sigmas_;
  std::vector<Counts> counts_;             // a level
  std::vector<float> directions_, noisy_;  // (images, C, S, S) of the batch at hand
  Rows rows_;
};

}  // namespace train
