#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/core/step_replay.h"
#include "engine/core/tape.h"
#include "train/adversarial/adversary.h"
#include "train/adversarial/free_noise.h"
#include "train/audit/consistency.h"
#include "train/batch_images.h"
#include "train/mix.h"
#include "train/model.h"
#include "train/objective.h"
#include "train/optimizer.h"

namespace train {

// What one MoE layer did in one step, summed over micro-batches.
struct LayerLoad {
  int64_t layer = 0;
  std::string name;             // "block 5", "layer4.1"
  std::vector<int64_t> tokens;  // (E) choices served by each expert
  int64_t choices = 0, dropped = 0;
  // PRC's S (moe/prc_loss.h) over the step's true pairs of tokens, (E, E); only where look_at_pairs
  // was asked for and the batch has two views, else empty.
  std::vector<double> s;
  int64_t pairs = 0;
};

struct StepResult {
  LossTerms loss;
  double gradient_norm = 0, learning_rate = 0;
  // Training accuracy on the step's own views; where images are mixed, the label is that of the
  // image itself, not of its partner.
  int64_t views = 0, correct = 0;
  std::vector<LayerLoad> layers;  // reused from step to step
};

// One training step: forward, loss, backward over all micro-batches, clip, update. Owns the
// step's memory; a warm step makes no heap allocation. In free adversarial training all of that
// adversarial.replays times with the same batch and learning rate, each replay with router noise
// and masks of its own; what a step reports is then its last replay's.
class TrainStep {
 public:
  // steps: of the whole run, for the schedule. The model must have gradients. several: the right
  // classes of the training set's images with data.multi_labels, else null; must outlive the
  // object.
  TrainStep(const Config& config, Model& model, int64_t steps,
            const RightClasses* several = nullptr);

  // `step` is 0-based. On a GPU it returns while the weights are still being updated, and what
  // `ahead`, which may be null, shows next is brought there meanwhile. Error(kValue)
  // if the loss or the gradient norm is not finite: names the step and the first op whose output is
  // not finite; the weights are left as they were.
  const StepResult& run(const data::Batch& batch, int64_t step, data::Loader* ahead = nullptr);
  // The same where the next step's batch is known: benchmarks.
  const StepResult& run(const data::Batch& batch, int64_t step, const data::Batch& next);

  Optimizer& optimizer() { return optimizer_; }
  // What a run has beside its parameters and is to be in its checkpoints: with free adversarial
  // training "adversarial/noise", else nothing. Views: what is read into them is in force.
  std::vector<NamedTensor> state() const;
  // Error(kFormat) that begins with `where`, for a state that no run can have.
  void check_state(const std::string& where) const;
  // Bytes of activations and their gradients at the peak so far.
  int64_t activation_bytes() const { return arena_.bytes_peak() + input_arena_.bytes_peak(); }
  // From now on StepResult has S of every layer; the weights stay the same bits.
  void look_at_pairs(bool wanted) { looks_at_pairs_ = wanted; }
  // Adds the time of every op to `times` (null: stop). Such steps are not replayed.
  void profile(engine::OpTimes* times) {
    tape_.profile(times);
    profiled_ = times != nullptr;
  }
  // On a GPU whole steps are recorded and, from the third on, replayed as one CUDA graph, with the
  // same bits, where `replays()`: steps of one micro-batch, without adversarial training and
  // without mixtures in a residual network. false: never, from now on.
  void replay(bool wanted) {
    replay_wanted_ = wanted;
    if (!wanted) recorded_ = {};
  }
  bool replays() const { return whole_ && replayable_ && replay_wanted_; }
  bool replaying() const { return recorded_.work != nullptr; }

 private:
  const StepResult& run_batch(const data::Batch& batch, int64_t step);
  void update(const data::Batch& batch, int64_t step, int64_t replay);
  // Images [begin, end) of the batch, in one pass.
  struct Part {
    const data::Batch& batch;
    int64_t step, replay, begin, end;
  };
  // What a part's computation reads, on the model's device but for `neighbours`. Of parts of one
  // size always at the same addresses, but for the first.
  struct Inputs {
    engine::Tensor images, neighbours, targets;
    const int64_t *step = nullptr, *sample_ids = nullptr;
    std::vector<moe::TokenPairs> pairs;
  };
  struct Recorded {
    std::unique_ptr<engine::StepReplay> work;
    const void *images = nullptr, *targets = nullptr, *last = nullptr;  // read where
    int64_t views = 0;
  };
  void micro_batch(const Part& part);
  void prepare(const Part& part);
  ViewLabels view_labels(const data::Batch& batch) const;
  // From inputs_ to the gradients, and of a whole step to the weights.
  void compute(const Part& part);
  void run_whole(const Part& part);
  // Images as the model is to see them first, of the kinds that change nothing on the way.
  engine::Tensor shown(const Part& part);
  void clear_result(int64_t views);
  // Adversarial images in the place of `ids.size()` images from `begin` on.
  engine::Tensor attacked(const data::Batch& batch, int64_t step, int64_t begin,
                          std::span<const int64_t> ids);
  void read_numbers(int64_t step);
  void count(const ViewLabels& labels, int64_t begin);
  void add_pairs(const engine::Tensor& match);
  [[noreturn]] void report_non_finite(int64_t step, const char* what, double value) const;

  const Config config_;
  const Objective objective_;
  Mixer mixer_;
  std::unique_ptr<Adversary> adversary_;  // null: training on the images as they are, or free
  std::unique_ptr<FreeNoise> noise_;
  const RightClasses* const several_;
  Model& model_;
  const int64_t steps_;
  Optimizer optimizer_;
  engine::StepArena arena_;       // on the model's device
  engine::StepArena host_arena_;  // what is read of it
  engine::Tape tape_;
  engine::StepArena input_arena_;  // on the model's device, of what compute() reads
  engine::Tape input_tape_;
  Inputs inputs_;
  std::vector<Objective::PairPlace> places_;  // of the MoE layers
  engine::Tensor best_;                       // (views, 1) i32 the largest logit's class, on a GPU
  // Whether a part is the whole step and updates the weights in the same go, on a GPU; whether its
  // work does not depend on what only the host knows.
  const bool whole_, replayable_;
  bool replay_wanted_ = true, profiled_ = false;
  int64_t whole_steps_ = 0;
  Recorded recorded_;
  BatchImages batch_images_;
  engine::Tensor images_;              // of the batch at hand
  data::Loader* ahead_ = nullptr;      // of the step at hand
  const data::Batch* next_ = nullptr;  // likewise
  moe::ModelOutput output_, second_;   // second_: for adversarial images beside the clean ones
  StepResult result_;
  bool looks_at_pairs_ = false;
  std::vector<ConsistencyMatrix> matrices_;  // an MoE layer, of the step at hand
  std::vector<int64_t> sample_ids_;
  LossNumbers numbers_;
  engine::Buffer seed_gradient_;  // 1, where the model is
};

// Steps of a run: train.steps, or train.epochs over `images` source images.
// Error(kValue) if neither is given.
int64_t total_steps(const Config& config, int64_t images);

}  // namespace train
