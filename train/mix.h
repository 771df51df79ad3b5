#pragma once

#include <span>
#include <vector>

#include "engine/core/rng.h"
#include "engine/ops/mix_images.h"
#include "train/config.h"
#include "train/right_classes.h"

namespace train {

// Mixup and CutMix: what a step shows the model in place of single images, and their labels.
//
// The batch is cut into parts of augment.mix_images views (the images of one device in the
// publication; 0: the whole batch). An image's partner is the next one of its part, the last
// one's is the first; of two views of an image, the same view of the next image.
//   mixup   (a_0, a_1) ~ Dirichlet(alpha, alpha), sorted so that a_0 >= 1/2:
//           x <- a_0 x + a_1 x_partner, and labels likewise (spec 3.3)
//   CutMix  lambda ~ Beta(alpha, alpha): a box of sides sqrt(1 - lambda) times the image's, its
//           centre uniform, cut off at the borders, shows the partner; labels by its area
//           (Yun et al., ICCV 2019)
// With both, each draw is CutMix with probability augment.cutmix_share. One draw holds for the
// whole batch, for each part ("device") or for each image ("example"): augment.mix_granularity.
// Draws are functions of the seed, the step and the part's or image's place in the batch.
class Mixer {
 public:
  explicit Mixer(const Config& config);

  // Are images mixed? May labels be other than one class each (also label smoothing, and
  // data.multi_labels)?
  bool mixes() const { return mixup_ > 0 || cutmix_ > 0; }
  bool softens() const { return mixes() || smoothing_ > 0 || several_; }

  // Draws for a step of `views` images; the constructor's batch at most, no allocation.
  void draw(int64_t step, int64_t views);
  // (views); of the last draw
  std::span<const engine::ImageMix> drawn() const { return {drawn_.data(), views_}; }

  // Targets (end - begin, C) of images [begin, end), on the arena: row i is
  //   s t[n] + (1 - s) t[p],   t[n] = (1 - smoothing) y[n] + smoothing / C
  // with s the image's own share of what is seen and y[n] what `labels` says: 1 at the right class,
  // or at each of several, or 1/k at each.
  engine::Tensor targets(engine::StepArena& arena, const ViewLabels& labels, int64_t begin,
                         int64_t end) const;

 private:
  engine::ImageMix draw_one(engine::RngKey key, float& share) const;

  double mixup_, cutmix_, cutmix_share_, smoothing_;
  bool several_;
  std::string granularity_;
  int64_t part_, stride_, side_, classes_;
  uint64_t seed_;
  size_t views_ = 0;
  std::vector<engine::ImageMix> drawn_;  // (batch)
  std::vector<float> share_;             // (batch) of the image itself
};

// The first weight of a symmetric Dirichlet(alpha) of two, which is Beta(alpha, alpha).
// alpha > 0; from gamma variates (Marsaglia and Tsang, 2000) kept as logarithms, so that small
// alphas do not end in 0 / 0.
double draw_beta(double alpha, engine::RngStream& rng);

}  // namespace train
