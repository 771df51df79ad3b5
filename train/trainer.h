#pragma once

#include <csignal>
#include <memory>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "data/loader.h"
#include "train/config.h"
#include "train/evaluate.h"
#include "train/file_io.h"
#include "train/log.h"
#include "train/metrics.h"
#include "train/model.h"
#include "train/router_watch.h"
#include "train/train_step.h"

namespace train {

struct TrainerOptions {
  std::string run_dir;         // where config, metrics, log and checkpoints go
  bool resume = false;         // continue from the newest whole checkpoint of run_dir
  std::string resume_command;  // printed when a signal ends the run
  // Set by a signal handler; the run finishes its step, saves and ends. May be null.
  const volatile std::sig_atomic_t* stop = nullptr;
};

enum class Outcome : uint8_t { kDone, kStopped };

// A whole training run: steps, log lines, evaluations, checkpoints. A resumed run continues
// the straight one bit for bit, because batches and random numbers are functions of the step.
class Trainer {
 public:
  // The config is complete and valid (adapt_to_data, validate). Creates the run directory and
  // writes config.toml; without resume an existing run there is Error(kValue). test may be null.
  Trainer(const Config& config, const data::Dataset& train, const data::Dataset* test,
          const TrainerOptions& options);
  Outcome run();

 private:
  struct Interval;  // what is summed between two log lines
  void start();
  void load_newest();
  void take_folder(std::optional<int64_t> resume_step);
  void log_interval(Interval& interval, int64_t next_step);
  // Is S of this step to be written? So many times a run as log.s_matrices says, and at its end.
  bool wants_s(int64_t next_step) const;
  void log_s(const StepResult& result, int64_t next_step);
  void log_event(int64_t step, const std::string& event, const std::string& text);
  // False where a signal broke it off.
  bool evaluate_now(int64_t next_step);
  bool finish_evaluation();
  void train_one(data::Loader& loader, int64_t step, Interval& interval);
  // Runs f; an Error gets the last good checkpoint added to its message.
  template <class F>
  void guarded(F&& f) const;
  bool stop_wanted() const { return options_.stop != nullptr && *options_.stop != 0; }
  // proven: an evaluation of these weights gave finite figures. Until then the checkpoint before
  // stays, whatever checkpoint.keep says.
  void save(int64_t next_step, bool proven);
  bool due(int64_t every, int64_t next_step) const {
    return next_step == steps_ || (every > 0 && next_step % every == 0);
  }

  const Config config_;
  const data::Dataset& train_;
  const data::Dataset* test_;
  const TrainerOptions options_;
  const FolderLock lock_;
  const int64_t steps_, sources_per_step_, images_;
  const engine::Device device_;
  Model model_;
  std::unique_ptr<const RightClasses> several_;  // of data.multi_labels
  TrainStep step_;
  Inference inference_;
  Log log_;
  std::unique_ptr<Metrics> metrics_;
  RouterWatch watch_;
  CheckpointState state_;
  // The newest checkpoint, and the newest whose weights gave finite figures afterwards.
  std::string last_checkpoint_ = "none", good_checkpoint_ = "none";
  int64_t first_step_ = 0;
  double started_s_ = 0;
};

}  // namespace train
