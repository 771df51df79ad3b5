#pragma once

#include <cmath>
#include <csignal>
#include <cstdint>
#include <span>

#include "data/dataset.h"
#include "data/loader.h"
#include "engine/core/arena.h"
#include "engine/core/buffer.h"
#include "engine/core/tape.h"
#include "engine/ops/cross_entropy.h"
#include "train/batch_images.h"
#include "train/config.h"
#include "train/network.h"

namespace train {

// Forward passes in evaluation mode (no router noise, no dropout, no gradients), one after
// another in the same memory: from the second batch of a size on nothing is allocated.
//
// Where the model has a capacity at evaluation, routing groups of `moe.group_images` images
// must divide a batch: a batch they do not divide is filled up with images of zeros, whose
// rows come after those of the batch and are for nobody. They compete for slots as any image
// does, which with batch priority or expert choice may cost others a slot.
class Inference {
 public:
  explicit Inference(const Network& network)
      : network_(network), arena_(network.device()), tape_(arena_), batch_(network.device()) {}
  Inference(const Inference&) = delete;
  Inference& operator=(const Inference&) = delete;

  // images (B, C, S, S) f32 on the CPU or where the model is. The result, on the CPU, is valid
  // until the next call; its first B images are those asked for.
  const moe::ModelOutput& run(const engine::Tensor& images);
  // Its logits alone: of a GPU nothing else is fetched.
  engine::Tensor logits(const engine::Tensor& images);
  // Those of a loader's batch, of bytes or pixels; towards a GPU the loader's next one is on its
  // way meanwhile. To be called for batch after batch of one evaluation, which begin() starts.
  engine::Tensor logits(const data::Batch& batch, const Config& config, data::Loader& loader);
  void begin() { batch_.drop_next(); }

 private:
  engine::Tensor filled_up(const engine::Tensor& images);
  void forward(const engine::Tensor& images);

  const Network& network_;
  engine::StepArena arena_, host_arena_;
  engine::Tape tape_;
  BatchImages batch_;
  engine::Buffer filled_;
  moe::ModelOutput output_, on_host_;
};

// A prediction depends on the other images of its batch: experts have a capacity at
// evaluation, so a token may be dropped because of its neighbours.
bool depends_on_neighbours(const Config& config);

// Standard error of a share p of n independent cases: sqrt(p (1 - p) / n).
inline double share_error(double p, int64_t n) {
  return n > 0 ? std::sqrt(p * (1 - p) / static_cast<double>(n)) : 0;
}

// How well a model does on n images. accuracy_se is share_error(accuracy, n); loss is the mean
// over images and loss_se its standard error, sqrt(sum (l - mean)^2 / (n (n - 1))).
struct Evaluation {
  int64_t n = 0;
  double accuracy = 0, accuracy_se = 0;
  double loss = 0, loss_se = 0;
};

// The kind of loss that config.train.loss names.
engine::CrossEntropy classification_loss(const Config& config);

// The classification loss of one image in f64; its formula is that of engine::cross_entropy.
double image_loss(const float* logits, int64_t classes, int32_t label, engine::CrossEntropy kind);

// The class with the largest logit, ties to the lower class.
int32_t predicted_class(const float* logits, int64_t classes);

// Sums towards an Evaluation, image after image.
class EvaluationSum {
 public:
  explicit EvaluationSum(engine::CrossEntropy kind = engine::CrossEntropy::kSoftmax)
      : kind_(kind) {}
  // The first labels.size() rows of logits (B, classes), in order.
  // Error(kValue) for logits that are not finite and for labels outside the classes.
  void add(const engine::Tensor& logits, std::span<const int32_t> labels);
  Evaluation result() const;

 private:
  engine::CrossEntropy kind_;
  int64_t n_ = 0, correct_ = 0;
  double loss_ = 0, loss_square_ = 0;
};

// One pass over an evaluation stream of single views (evaluation_loader in train/model.h).
// Serves a finished model and the trainer's own in the middle of training alike: it reads the
// weights and touches nothing else. The same bits for any number of threads and workers and,
// unless depends_on_neighbours, for any batch. `inference` may be kept for the next pass.
// With `stop`, which a signal handler may set: ends after the batch at hand where it is not 0, and
// then the result is of fewer images.
Evaluation evaluate(Inference& inference, const Config& config, data::Loader& loader,
                    const volatile std::sig_atomic_t* stop = nullptr);

// The same over config.eval.limit images of a data set, or all. With `several`, which may be null,
// it also counts towards that.
class MultiLabelSum;
Evaluation evaluate(const Network& network, const Config& config, const data::Dataset& dataset,
                    MultiLabelSum* several = nullptr);

}  // namespace train
