#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "engine/gemm/gemm.h"
#include "train/device.h"
#include "train/evaluate.h"
#include "train/file_io.h"
#include "train/memory_plan.h"

namespace train {

using engine::check;
using engine::ErrorKind;

// Sums over the steps between two log lines.
struct Trainer::Interval {
  LossTerms loss = {};
  double gradient_norm = 0, learning_rate = 0, wait_s = 0, started_s = 0;
  int64_t steps = 0, views = 0, correct = 0;

  void add(const StepResult& r) {
    loss.add(r.loss);
    gradient_norm += r.gradient_norm;
    learning_rate = r.learning_rate;
    views += r.views;
    correct += r.correct;
    ++steps;
  }
};

namespace {

double now_s() { return engine::OpTimes::now_s(); }

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text.precision(digits);
  text << std::fixed << value;
  return text.str();
}

std::string duration(double seconds) {
  const int64_t s = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  std::ostringstream text;
  if (s >= 3600) text << s / 3600 << "h";
  if (s >= 60) text << s / 60 % 60 << "m";
  text << s % 60 << "s";
  return text.str();
}

int64_t images_of(const Config& config, const data::Dataset& set) {
  return config.data.limit > 0 ? std::min(config.data.limit, set.size()) : set.size();
}

std::unique_ptr<const RightClasses> read_right_classes(const Config& config,
                                                       const data::Dataset& set, int64_t images) {
  const std::string& path = config.data.multi_labels;
  if (path.empty()) return nullptr;
  const MultiLabels labels(path, config.model.classes, set.info().class_names);
  return std::make_unique<RightClasses>(labels, set, images, config.train.loss == "softmax");
}

// The config, unless its run is too large: before memory of its sizes is asked for, which may be
// more than the system has words for.
const Config& fitting(const Config& config, engine::Device device) {
  check_runs_on(config, device);
  const int64_t parameters = count_parameters(config), available = available_on(device);
  const MemoryPlan plan = plan_memory(config, parameters);
  const bool fits = available == 0 || plan.total() <= available;
  check_fits(plan, available, fits ? 0 : fitting_micro_batch(config, parameters, available));
  return config;
}

}  // namespace

Trainer::Trainer(const Config& config, const data::Dataset& train, const data::Dataset* test,
                 const TrainerOptions& options)
    : config_(config),
      train_(train),
      test_(test),
      options_(options),
      lock_(options.run_dir),
      steps_(total_steps(config, train.size())),
      sources_per_step_(config.train.batch / (config.data.two_view ? 2 : 1)),
      images_(images_of(config, train)),
      device_(open_device(config.train.device)),
      model_(fitting(config, device_), true, engine::Dtype::kF32, device_),
      several_(read_right_classes(config, train, images_)),
      step_(config, model_, steps_, several_.get()),
      inference_(*model_.network),
      log_(options.run_dir),
      watch_(config.moe.experts, config.moe.top_k) {
  check(config.schedule.warmup_steps <= steps_, ErrorKind::kValue,
        "schedule.warmup_steps = ", config.schedule.warmup_steps, " is more than the run's ",
        steps_, " steps: shorten the warm-up or train longer");
  state_.seed = static_cast<uint64_t>(config.train.seed);
  state_.config_hash = config_hash(config);
  // Keys in alphabetical order, as they come back.
  const std::string labels =
      several_ == nullptr ? "" : ",\"labels_crc32\":" + std::to_string(several_->crc32());
  state_.extra = "{\"images\":" + std::to_string(images_) + labels +
                 ",\"sample_crc32\":" + std::to_string(data::sample_crc32(train, images_)) + "}";
  start();
}

// Goes on from the newest whole checkpoint, if it is one of this very run.
void Trainer::load_newest() {
  const std::string& dir = options_.run_dir;
  const Loaded found = peek_checkpoint(dir);
  for (const std::string& warning : found.warnings) log_.line("warning: " + warning);
  if (found.state.config_hash != state_.config_hash) {
    const auto text = found.metadata.find("config");
    const std::string changed =
        text == found.metadata.end()
            ? "the config hash " + found.state.config_hash + " is now " + state_.config_hash
            : changed_values(parse_config(text->second, found.path, Origin::kFile), config_);
    // Another hash and the same values: settings that did not exist then have their defaults.
    check(changed.empty(), ErrorKind::kValue, dir,
          ": its checkpoint was made with other settings (", changed,
          "): resume with the settings in its config.toml");
  }
  check(found.state.extra == state_.extra, ErrorKind::kValue, dir,
        ": its checkpoint was made with other training data (", found.state.extra, ", now ",
        state_.extra, "): resume with the same --data and data.multi_labels");
  const CheckpointState& was = found.state;
  check(was.step <= steps_, ErrorKind::kFormat, found.path, ": run.json says step ", was.step,
        ", but the run has ", steps_, "; use another checkpoint");
  const int64_t position = was.step * sources_per_step_;
  check(was.seed == state_.seed && was.epoch == position / images_ &&
            was.position == position % images_,
        ErrorKind::kFormat, found.path, ": run.json contradicts itself: seed ", was.seed,
        ", epoch ", was.epoch, " and position ", was.position, " are not those of step ", was.step,
        "; use another checkpoint");
  const auto more = step_.state();
  state_ = load_checkpoint(found.path, model_.params, LoadWhat::kEverything, more).state;
  check_finite(model_.params, found.path);
  step_.check_state(found.path);
  first_step_ = state_.step;
  last_checkpoint_ = found.path;
  log_.line("resuming after step " + std::to_string(first_step_) + " from " + found.path);
}

void Trainer::start() {
  std::optional<int64_t> resume_step;
  // Killed before its first checkpoint: what was logged is dropped and the run starts over.
  const bool begun = options_.resume && !has_checkpoint(options_.run_dir) &&
                     std::filesystem::exists(options_.run_dir + "/config.toml");
  if (begun) {
    log_.line("no checkpoint yet in " + options_.run_dir + ": starting at step 0");
    resume_step = 0;
  } else if (options_.resume) {
    load_newest();
    resume_step = first_step_;
  } else {
    check(!has_checkpoint(options_.run_dir), ErrorKind::kValue, options_.run_dir,
          " holds a run already: give --resume to continue it, or another --out");
  }
  check(config_.init.rules.empty() || !config_.init.from.empty(), ErrorKind::kValue,
        "init.rules = \"", config_.init.rules,
        "\" needs weights to start from: give --init PATH, or --set init.rules= for none");
  if (first_step_ == 0 && !config_.init.from.empty()) {
    log_.line("weights of " + config_.init.from + ": " + init_model(config_, model_).text());
    step_.optimizer().reset_ema();
  }
  const MemoryPlan plan = plan_memory(config_, model_.params.count());
  take_folder(resume_step);
  if (first_step_ > 0 && first_step_ < steps_) log_event(first_step_, "resume", "");
  log_.line("parameters: " + std::to_string(plan.parameters) + "; multiply-adds per image: " +
            fixed(static_cast<double>(model_.network->cost_per_image().done()) * 1e-6, 1) +
            " million; training images: " + std::to_string(images_));
  log_.line(plan.text());
  if (device_ != engine::Device::kCpu) {
    log_.line("device: " + device_text(device_) +
              (step_.replays() ? "; a step is replayed as one CUDA graph" : ""));
  }
  if (config_.train.precision == "bf16" && device_ == engine::Device::kCpu) {
    log_.line("products of layers, routers excepted: " +
              std::string(engine::kernels::bf16_method()));
  }
  if (config_.train.micro_batch > 0 && config_.train.micro_batch < config_.train.batch) {
    log_.line((is_vit(config_) ? "balance losses, PRC and routing groups are"
                               : "batch norms' statistics are") +
              std::string(" per micro-batch of ") + std::to_string(config_.train.micro_batch) +
              " views");
  }
}

// From here on the folder is this run's: leftovers of killed ones go, config.toml says what is in
// force now.
void Trainer::take_folder(std::optional<int64_t> resume_step) {
  const std::string path = options_.run_dir + "/config.toml", text = to_toml(config_, true);
  const bool there = std::filesystem::exists(path);
  const std::string before = there ? read_file(path) : "";
  // One that a run wrote, perhaps one that ended before its first step, reads and writes to itself.
  check(!there || first_step_ > 0 ||
            to_toml(parse_config(before, path, Origin::kFile), true) == before,
        ErrorKind::kValue, path,
        " is there already and no run has written it: choose another --out");
  metrics_ = std::make_unique<Metrics>(options_.run_dir, resume_step);
  constexpr std::string_view kOurs[] = {"config.toml", "metrics.jsonl", "summary.csv"};
  remove_unfinished(options_.run_dir, kOurs);
  clean_checkpoints(options_.run_dir);
  if (text != before) write_file(path, text);
}

void Trainer::log_interval(Interval& in, int64_t next_step) {
  const double n = static_cast<double>(in.steps), seconds = now_s() - in.started_s;
  const double rate = static_cast<double>(in.views) / seconds;
  const double epoch =
      static_cast<double>(next_step * sources_per_step_) / static_cast<double>(images_);
  const double accuracy = static_cast<double>(in.correct) / static_cast<double>(in.views);
  const auto layers = watch_.take();
  double busiest = 0, emptiest = 0, dropped = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    busiest = std::max(busiest, layers[l].busiest);
    emptiest = l == 0 ? layers[l].emptiest : std::min(emptiest, layers[l].emptiest);
    dropped = std::max(dropped, layers[l].dropped_share);
  }
  std::ostringstream line;
  line.precision(4);
  line << "step " << next_step << "/" << steps_ << " epoch " << fixed(epoch, 2) << " loss "
       << in.loss.total / n << " acc " << fixed(100 * accuracy, 1) << "% |g| "
       << in.gradient_norm / n << " lr " << in.learning_rate << " " << fixed(rate, 0)
       << " views/s data " << fixed(100 * in.wait_s / seconds, 1) << "%";
  if (!layers.empty()) {
    line << " dropped " << fixed(100 * dropped, 1) << "% experts " << fixed(emptiest, 2) << "-"
         << fixed(busiest, 2) << "x";
  }
  line << " eta " << duration(static_cast<double>(steps_ - next_step) * seconds / n);
  log_.interval(line.str());
  for (const std::string& warning : RouterWatch::warnings(layers)) {
    log_.line("step " + std::to_string(next_step) + " warning: " + warning);
    log_event(next_step, "warning", warning);
  }

  Fields fields{{"kind", std::string("train")},
                {"step", next_step},
                {"epoch", epoch},
                {"loss", in.loss.total / n},
                {"cross_entropy", in.loss.cross_entropy / n},
                {"importance", in.loss.importance / n},
                {"load", in.loss.load / n},
                {"gshard", in.loss.gshard / n},
                {"entropy", in.loss.entropy / n},
                {"balance", in.loss.balance / n},
                {"spread", in.loss.spread / n},
                {"prc", in.loss.prc / n},
                {"prc_diagonal", in.loss.prc_diagonal / n},
                {"prc_off_diagonal", in.loss.prc_off_diagonal / n},
                {"prc_pairs", static_cast<double>(in.loss.prc_pairs) / n},
                {"divergence", in.loss.divergence / n},
                {"accuracy", accuracy},
                {"accuracy_n", in.views},
                {"gradient_norm", in.gradient_norm / n},
                {"learning_rate", in.learning_rate},
                {"views_per_s", rate},
                {"data_wait_share", in.wait_s / seconds}};
  for (const RouterWatch::Summary& s : layers) {
    const std::string at = "block_" + std::to_string(s.layer) + "_";
    fields.emplace_back(at + "load", s.load);
    fields.emplace_back(at + "effective_experts", s.effective_experts);
    fields.emplace_back(at + "dropped_share", s.dropped_share);
    fields.emplace_back(at + "dead", static_cast<int64_t>(s.dead.size()));
  }
  metrics_->write(fields);
  in = Interval{.started_s = now_s()};
}

bool Trainer::wants_s(int64_t next_step) const {
  // steps * s_matrices may be beyond 64 bits; what matters is the same in f64 on every machine.
  const double frames = static_cast<double>(config_.log.s_matrices) / static_cast<double>(steps_);
  const auto frame = [frames](int64_t step) {
    return std::floor(frames * static_cast<double>(step));
  };
  return config_.data.two_view && config_.log.s_matrices > 0 &&
         (next_step == steps_ || frame(next_step) > frame(next_step - 1));
}

void Trainer::log_s(const StepResult& result, int64_t next_step) {
  Fields fields{{"kind", std::string("s")}, {"step", next_step}};
  for (const LayerLoad& layer : result.layers) {
    if (layer.s.empty()) continue;
    const std::string at = "block_" + std::to_string(layer.layer) + "_";
    fields.emplace_back(at + "pairs", layer.pairs);
    fields.emplace_back(at + "s", layer.s);
  }
  if (fields.size() > 2) metrics_->write(fields);
}

void Trainer::log_event(int64_t step, const std::string& event, const std::string& text) {
  metrics_->write(
      {{"kind", std::string("event")}, {"step", step}, {"event", event}, {"text", text}});
}

template <class F>
void Trainer::guarded(F&& f) const {
  try {
    f();
  } catch (const engine::Error& error) {
    const bool kept = std::filesystem::exists(good_checkpoint_);
    engine::fail(error.kind(), error.message(),
                 "; last good checkpoint: ", kept ? good_checkpoint_ : "none");
  }
}

bool Trainer::evaluate_now(int64_t next_step) {
  data::Loader loader = data::Loader::evaluation(*test_, evaluation_loader(config_, device_));
  Evaluation e;
  guarded([&] {
    try {
      e = evaluate(inference_, config_, loader, options_.stop);
    } catch (const engine::Error& error) {
      engine::fail(error.kind(), "step ", next_step, ": ", error.message());
    }
  });
  if (stop_wanted()) return false;
  good_checkpoint_ = last_checkpoint_;
  log_.line("step " + std::to_string(next_step) + " test accuracy " + fixed(100 * e.accuracy, 2) +
            " +- " + fixed(100 * e.accuracy_se, 2) + " % (n " + std::to_string(e.n) + ") loss " +
            fixed(e.loss, 4));
  const Fields fields{{"kind", std::string("eval")},  {"step", next_step}, {"accuracy", e.accuracy},
                      {"accuracy_se", e.accuracy_se}, {"n", e.n},          {"loss", e.loss}};
  metrics_->write(fields);
  metrics_->write_summary(fields);
  if (!(e.accuracy <= state_.best_metric)) {  // also true while the best is NaN
    state_.best_metric = e.accuracy;
    state_.best_step = next_step;
  }
  return true;
}

// A run that ended inside an evaluation has its checkpoint, but not the evaluation's figures.
bool Trainer::finish_evaluation() {
  if (test_ == nullptr || first_step_ == 0 || !due(config_.eval.every, first_step_)) return true;
  if (metrics_->last_evaluation() >= first_step_) return true;
  if (!evaluate_now(first_step_)) return false;
  save(first_step_, /*proven=*/true);
  return true;
}

namespace {

// The config as a model file carries it: what depends on this machine or on where files lie is
// left at its default, so that equal weights are equal files.
std::string portable_config(Config config) {
  const Config plain;
  config.train.threads = plain.train.threads;
  config.train.device = plain.train.device;
  if (!config.init.from.empty()) config.init.from = "(another model)";
  config.data = Config::Data{.source = config.data.source.substr(0, config.data.source.find(':')),
                             .multi_labels = config.data.multi_labels.empty() ? "" : "(a file)",
                             .two_view = config.data.two_view,
                             .skip_bad_images = config.data.skip_bad_images,
                             .workers = plain.data.workers,
                             .prefetch = plain.data.prefetch,
                             .limit = config.data.limit};
  return to_toml(config, false);
}

std::string lines_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += name + "\n";
  return text;
}

}  // namespace

void Trainer::save(int64_t next_step, bool proven) {
  guarded([&] { check_finite(model_.params, "step " + std::to_string(next_step)); });
  metrics_->flush();
  state_.step = next_step;
  const int64_t position = next_step * sources_per_step_;
  state_.epoch = position / images_;
  state_.position = position % images_;
  last_checkpoint_ = save_checkpoint(
      options_.run_dir, model_.params, state_,
      {{"class_names", lines_of(train_.info().class_names)}, {"config", portable_config(config_)}},
      proven ? config_.checkpoint.keep : std::max<int64_t>(2, config_.checkpoint.keep),
      step_.state());
}

void Trainer::train_one(data::Loader& loader, int64_t step, Interval& interval) {
  const double wait = loader.wait_seconds();
  const data::Batch* batch = nullptr;
  try {
    batch = loader.next();
  } catch (const engine::Error&) {  // a picture that cannot be read must not cost the steps so far
    if (step > first_step_) save(step, /*proven=*/false);
    throw;
  }
  step_.look_at_pairs(wants_s(step + 1));
  guarded([&] {
    const StepResult& result = step_.run(*batch, step, step + 1 < steps_ ? &loader : nullptr);
    interval.add(result);
    watch_.add(result);
    log_s(result, step + 1);
  });
  interval.wait_s += loader.wait_seconds() - wait;  // for this batch, and for a look at the next
  good_checkpoint_ = last_checkpoint_;
}

Outcome Trainer::run() {
  bool stopped = !finish_evaluation();
  data::Loader loader(train_, training_loader(config_, device_), first_step_);
  started_s_ = now_s();
  Interval interval;
  interval.started_s = started_s_;
  for (int64_t step = first_step_; step < steps_ && !stopped; ++step) {
    train_one(loader, step, interval);
    const int64_t next = step + 1;
    const bool evaluate = test_ != nullptr && due(config_.eval.every, next);
    stopped = stop_wanted() && next < steps_;
    if (due(config_.log.every, next) || stopped) log_interval(interval, next);
    // A kill during the last evaluation must not cost the training.
    if (evaluate && next == steps_) save(next, /*proven=*/false);
    if (evaluate && !evaluate_now(next)) stopped = true;
    const bool best = evaluate && !stopped && state_.best_step == next;
    if (due(config_.checkpoint.every, next) || stopped || best) {
      save(next, /*proven=*/evaluate && !stopped);
    }
  }
  if (stopped) {
    log_.line("stopped by a signal; continue with: " + options_.resume_command);
    return Outcome::kStopped;
  }
  log_.line("done in " + duration(now_s() - started_s_) + "; " + last_checkpoint_);
  return Outcome::kDone;
}

}  // namespace train
