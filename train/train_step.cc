#include "train/train_step.h"

#include <algorithm>
#include <cmath>

#include "engine/core/upload.h"
#include "engine/ops/top_k.h"
#include "moe/prc_loss.h"
#include "train/schedule.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

int64_t total_steps(const Config& config, int64_t images) {
  if (config.train.steps > 0) return config.train.steps;
  check(config.train.epochs > 0, ErrorKind::kValue,
        "how long to train is not said: set train.steps or train.epochs");
  const int64_t per_step = config.train.batch / (config.data.two_view ? 2 : 1);
  const int64_t limit = config.data.limit > 0 ? std::min(config.data.limit, images) : images;
  return (config.train.epochs * limit + per_step - 1) / per_step;
}

namespace {

// The run's own, and another one for each further time that a batch is seen.
uint64_t seed_of(const Config& config, int64_t replay) {
  const auto seed = static_cast<uint64_t>(config.train.seed);
  if (replay == 0) return seed;
  return engine::RngKey(seed, engine::Purpose::kAttack).with(static_cast<uint64_t>(replay)).value();
}

}  // namespace

TrainStep::TrainStep(const Config& config, Model& model, int64_t steps, const RightClasses* several)
    : config_(config),
      objective_(config),
      mixer_(config),
      several_(several),
      model_(model),
      steps_(steps),
      optimizer_(config, model.params),
      arena_(model.params.device()),
      tape_(arena_),
      input_arena_(model.params.device()),
      input_tape_(input_arena_),
      whole_(model.params.device() != engine::Device::kCpu && config.adversarial.kind == "none" &&
             (config.train.micro_batch == 0 || config.train.micro_batch >= config.train.batch)),
      replayable_(is_vit(config) || config.moe.layers == "none"),
      batch_images_(model.params.device()),
      seed_gradient_({1}, engine::Dtype::kF32, model.params.device()) {
  constexpr float kOne = 1;
  engine::device_copy(model.params.device(), seed_gradient_.tensor().raw(), engine::Device::kCpu,
                      &kOne, sizeof(kOne));
  if (config.adversarial.kind == "free") {
    noise_ = std::make_unique<FreeNoise>(config, model.params.device());
  } else if (config.adversarial.kind != "none") {
    adversary_ = std::make_unique<Adversary>(config, *model.network);
  }
  const std::vector<std::string> names = model.network->moe_layer_names();
  for (const int64_t layer : moe_layer_indices(config)) {
    LayerLoad load;
    load.layer = layer;
    load.name = names[result_.layers.size()];
    load.tokens.assign(static_cast<size_t>(config.moe.experts), 0);
    result_.layers.push_back(load);
    if (!is_vit(config)) continue;
    const nn::VitConfig vit = vmoe_config(config).vit;
    places_.push_back({layer, vit.tokens(), vit.pool == nn::Pool::kToken});
  }
  sample_ids_.resize(static_cast<size_t>(config.train.batch));
}

void TrainStep::count(const ViewLabels& labels, int64_t begin) {
  const int64_t images = output_.logits.shape()[0], classes = output_.logits.shape()[1];
  if (best_.defined()) {
    const Tensor on_host = engine::brought_to(host_arena_, best_);
    const int32_t* best = on_host.data<const int32_t>();
    for (int64_t i = 0; i < images; ++i) result_.correct += labels.is_right(begin + i, best[i]);
  } else {
    const float* logits = output_.logits.data<const float>();
    for (int64_t i = 0; i < images; ++i) {
      const float* row = logits + i * classes;
      result_.correct += labels.is_right(begin + i, std::max_element(row, row + classes) - row);
    }
  }
  for (size_t l = 0; l < output_.routings.size(); ++l) {
    const moe::Routing& r = output_.routings[l];
    const Tensor ends = engine::brought_to(host_arena_, r.offset);
    const int32_t* offset = ends.data<const int32_t>();
    LayerLoad& load = result_.layers[l];
    for (size_t e = 0; e < load.tokens.size(); ++e) load.tokens[e] += offset[e + 1] - offset[e];
    load.choices += r.images * r.tokens * r.choices_per_token();
    load.dropped += moe::dropped_of(r, host_arena_);
  }
}

// Of the pairs that PRC compares, or would.
void TrainStep::add_pairs(const Tensor& match) {
  const engine::ArenaScope scope(arena_);
  for (size_t l = 0; l < output_.routings.size(); ++l) {
    const moe::Routing& r = output_.routings[l];
    if (r.soft) continue;
    const moe::TokenPairs pairs =
        moe::make_pairs(arena_, match, r.tokens, r.class_token, config_.prc.class_token, nullptr);
    const auto here = [this](const Tensor& x) { return engine::brought_to(host_arena_, x); };
    const Tensor left = here(pairs.left), right = here(pairs.right), clean = here(r.clean);
    matrices_[l].add(left.data<const int32_t>(), right.data<const int32_t>(), pairs.count,
                     clean.data<const float>());
  }
}

Tensor TrainStep::attacked(const data::Batch& batch, int64_t step, int64_t begin,
                           std::span<const int64_t> ids) {
  const auto count = static_cast<int64_t>(ids.size());
  const Tensor labels = labels_of(batch).rows(begin, begin + count);
  try {
    return adversary_->perturb(pixels_of(batch, config_).rows(begin, begin + count),
                               {labels.data<const int32_t>(), ids.size()}, step, ids);
  } catch (const engine::Error& error) {
    engine::fail(error.kind(), "step ", step + 1, ": ", error.message(),
                 "; try a lower schedule.peak or optimizer.clip = 1");
  }
}

Tensor TrainStep::shown(const Part& part) {
  const Tensor& all = images_;
  const auto put = [this](const Tensor& x) {
    return input_tape_.input(engine::brought_to(input_arena_, x));
  };
  return mixer_.mixes() ? engine::mix_images(put(all), mixer_.drawn(), part.begin, part.end)
                        : put(all.rows(part.begin, part.end));
}

ViewLabels TrainStep::view_labels(const data::Batch& batch) const {
  return {batch, config_.model.classes, several_, config_.train.loss == "softmax"};
}

void TrainStep::prepare(const Part& part) {
  input_tape_.clear();
  input_arena_.reset();
  host_arena_.reset();
  const auto& [batch, step, replay, begin, end] = part;
  for (int64_t i = begin; i < end; ++i) sample_ids_[static_cast<size_t>(i - begin)] = i;
  const std::span<const int64_t> ids{sample_ids_.data(), static_cast<size_t>(end - begin)};
  const bool replaced = adversary_ != nullptr && !adversary_->keeps_images();
  inputs_.images = noise_ == nullptr && !replaced ? shown(part) : Tensor{};
  inputs_.neighbours = adversary_ != nullptr ? attacked(batch, step, begin, ids) : Tensor{};
  inputs_.targets = engine::brought_to(
      input_arena_, mixer_.softens() ? mixer_.targets(host_arena_, view_labels(batch), begin, end)
                                     : labels_of(batch).rows(begin, end));
  inputs_.pairs.clear();
  if (objective_.compares_pairs()) {
    objective_.make_pairs(input_arena_, match_of(batch).rows(begin / 2, end / 2), places_,
                          seed_of(config_, replay), step, inputs_.pairs);
  }
  if (model_.params.device() == engine::Device::kCpu) return;
  inputs_.sample_ids = engine::upload(input_arena_, ids);
  inputs_.step = engine::upload(input_arena_, {&step, 1});
}

void TrainStep::compute(const Part& part) {
  tape_.clear();
  arena_.reset();
  const int64_t views = part.end - part.begin;
  nn::Forward f{.tape = tape_,
                .mode = nn::Mode::kTrain,
                .precision = model_.network->precision(),
                .seed = seed_of(config_, part.replay),
                .step = part.step,
                .sample_ids = {sample_ids_.data(), static_cast<size_t>(views)},
                .step_there = inputs_.step,
                .sample_ids_there = inputs_.sample_ids};
  const Tensor neighbours =
      inputs_.neighbours.defined() ? tape_.input(inputs_.neighbours) : Tensor{};
  const bool two_passes = adversary_ != nullptr && adversary_->keeps_images();
  const Tensor images = noise_ != nullptr
                            ? noise_->show(tape_, images_.rows(part.begin, part.end), part.begin)
                        : inputs_.images.defined() ? tape_.input(inputs_.images)
                                                   : neighbours;
  model_.network->forward(f, images, output_);
  if (two_passes) {
    nn::Forward second = f;
    second.seed = adversary_->second_seed();
    model_.network->forward(second, neighbours, second_);
  }
  const Tensor loss = objective_.loss(f, output_, inputs_.targets, inputs_.pairs, part.batch.views,
                                      numbers_, two_passes ? &second_ : nullptr);
  // Numbers are read when all work has been given to the device, so that it need not wait for us.
  const bool at_once = model_.params.device() == engine::Device::kCpu;
  if (at_once) read_numbers(part.step);
  tape_.backward(loss, seed_gradient_.tensor());
  if (!at_once) best_ = engine::top_k(output_.logits, 1);
  if (whole_) optimizer_.step_there(loss);
}

// The weights are updated while the host still knows nothing of the loss.
void TrainStep::run_whole(const Part& part) {
  const void* const last = inputs_.step;  // the last of what prepare() puts there
  const bool same = recorded_.views == part.end && recorded_.images == inputs_.images.raw() &&
                    recorded_.targets == inputs_.targets.raw() && recorded_.last == last;
  if (!same) {
    recorded_ = {nullptr, inputs_.images.raw(), inputs_.targets.raw(), last, part.end};
    whole_steps_ = 0;
  }
  // Two steps as they come: then every buffer has the size and place that it keeps.
  if (!replays() || profiled_ || whole_steps_++ < 2) {
    recorded_.work.reset();
    compute(part);
    return;
  }
  if (recorded_.work == nullptr) {
    if constexpr (engine::kCudaEnabled) {
      recorded_.work = engine::record_step([&] { compute(part); });
    }
  } else if (!inputs_.pairs.empty()) {
    numbers_.fixed().prc_pairs = inputs_.pairs[0].count;
  }
  recorded_.work->run();
}

void TrainStep::micro_batch(const Part& part) {
  prepare(part);
  whole_ ? run_whole(part) : compute(part);
  if (part.end == part.batch.views) {
    if (ahead_ != nullptr) batch_images_.start_next(*ahead_);
    if (next_ != nullptr) batch_images_.start_next(*next_);
  }
  if (model_.params.device() != engine::Device::kCpu) read_numbers(part.step);
  count(view_labels(part.batch), part.begin);
  if (looks_at_pairs_ && config_.data.two_view) {
    add_pairs(match_of(part.batch).rows(part.begin / 2, part.end / 2));
  }
  if (noise_ != nullptr) noise_->climb(part.begin);
}

void TrainStep::read_numbers(int64_t step) {
  const LossTerms terms = numbers_.read();
  if (!std::isfinite(terms.total)) report_non_finite(step, "loss", terms.total);
  result_.loss.add(terms);
}

void TrainStep::report_non_finite(int64_t step, const char* what, double value) const {
  const std::string where = tape_.first_non_finite();
  engine::fail(ErrorKind::kValue, "step ", step + 1, ": the ", what, " is not finite (", value,
               where.empty() ? std::string("; every forward value is, so it arose in the backward "
                                           "pass")
                             : "; first in " + where,
               "); try a lower schedule.peak or optimizer.clip = 1");
}

void TrainStep::clear_result(int64_t views) {
  result_.loss = {};
  result_.views = views;
  result_.correct = 0;
  for (LayerLoad& load : result_.layers) {
    std::ranges::fill(load.tokens, 0);
    load.choices = load.dropped = load.pairs = 0;
    load.s.clear();
  }
  matrices_.clear();
  if (looks_at_pairs_) {
    matrices_.assign(result_.layers.size(), ConsistencyMatrix(config_.moe.experts));
  }
}

void TrainStep::update(const data::Batch& batch, int64_t step, int64_t replay) {
  clear_result(batch.views);
  const int64_t micro = config_.train.micro_batch > 0 ? config_.train.micro_batch : batch.views;
  const int64_t replays = noise_ != nullptr ? config_.adversarial.replays : 1;
  result_.learning_rate = learning_rate(config_.schedule, step, steps_, config_.train.epochs);
  if (whole_) optimizer_.announce(step, result_.learning_rate);
  for (int64_t begin = 0; begin < batch.views; begin += micro) {
    micro_batch({batch, step, replay, begin, std::min(batch.views, begin + micro)});
  }
  for (size_t l = 0; l < matrices_.size(); ++l) {
    if (matrices_[l].pairs() == 0) continue;
    result_.layers[l].pairs = matrices_[l].pairs();
    result_.layers[l].s = matrices_[l].matrix();
  }
  result_.gradient_norm = whole_ ? optimizer_.last_norm() : optimizer_.gradient_norm();
  if (!std::isfinite(result_.gradient_norm)) {
    report_non_finite(step, "gradient norm", result_.gradient_norm);
  }
  if (!whole_) {
    optimizer_.step(step * replays + replay, result_.learning_rate, result_.gradient_norm);
  }
}

const StepResult& TrainStep::run(const data::Batch& batch, int64_t step, data::Loader* ahead) {
  ahead_ = ahead;
  next_ = nullptr;
  return run_batch(batch, step);
}

const StepResult& TrainStep::run(const data::Batch& batch, int64_t step, const data::Batch& next) {
  ahead_ = nullptr;
  next_ = &next;
  return run_batch(batch, step);
}

const StepResult& TrainStep::run_batch(const data::Batch& batch, int64_t step) {
  check(batch.views <= static_cast<int64_t>(sample_ids_.size()), ErrorKind::kInternal,
        "a batch of ", batch.views, " views for steps of ", sample_ids_.size());
  images_ = batch_images_.show(batch, config_);
  if (mixer_.softens()) mixer_.draw(step, batch.views);
  const int64_t replays = noise_ != nullptr ? config_.adversarial.replays : 1;
  for (int64_t replay = 0; replay < replays; ++replay) update(batch, step, replay);
  return result_;
}

std::vector<NamedTensor> TrainStep::state() const {
  if (noise_ == nullptr) return {};
  return {{"adversarial/noise", noise_->noise()}};
}

void TrainStep::check_state(const std::string& where) const {
  if (noise_ != nullptr) noise_->check_range(where);
}

}  // namespace train
