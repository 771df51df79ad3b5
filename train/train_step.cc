#include "train/train_step.h"

#include <algorithm>
#include <cmath>

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
      tape_(arena_) {
  if (config.adversarial.kind == "free") {
    noise_ = std::make_unique<FreeNoise>(config);
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
  }
  sample_ids_.resize(static_cast<size_t>(config.train.batch));
}

void TrainStep::count(const ViewLabels& labels, int64_t begin) {
  const float* logits = output_.logits.data<const float>();
  const int64_t classes = output_.logits.shape()[1];
  for (int64_t i = 0; i < output_.logits.shape()[0]; ++i) {
    const float* row = logits + i * classes;
    result_.correct += labels.is_right(begin + i, std::max_element(row, row + classes) - row);
  }
  for (size_t l = 0; l < output_.routings.size(); ++l) {
    const moe::Routing& r = output_.routings[l];
    const int32_t* offset = r.offset.data<const int32_t>();
    LayerLoad& load = result_.layers[l];
    for (size_t e = 0; e < load.tokens.size(); ++e) load.tokens[e] += offset[e + 1] - offset[e];
    load.choices += r.images * r.tokens * r.choices_per_token();
    load.dropped += r.dropped;
  }
}

// Of the pairs that PRC compares, or would.
void TrainStep::add_pairs(const Tensor& match) {
  for (size_t l = 0; l < output_.routings.size(); ++l) {
    const moe::Routing& r = output_.routings[l];
    if (r.soft) continue;
    const moe::TokenPairs pairs =
        moe::make_pairs(tape_, match, r.tokens, r.class_token, config_.prc.class_token, nullptr);
    matrices_[l].add(pairs.left.data<const int32_t>(), pairs.right.data<const int32_t>(),
                     pairs.count, r.clean.data<const float>());
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

Tensor TrainStep::shown(const data::Batch& batch, const Tensor& neighbours, int64_t begin,
                        int64_t end) {
  if (adversary_ != nullptr && !adversary_->keeps_images()) return neighbours;
  const Tensor all = pixels_of(batch, config_);
  if (noise_ != nullptr) return noise_->show(tape_, all.rows(begin, end), begin);
  return mixer_.mixes() ? engine::mix_images(tape_.input(all), mixer_.drawn(), begin, end)
                        : tape_.input(all.rows(begin, end));
}

void TrainStep::micro_batch(const data::Batch& batch, int64_t step, int64_t replay, int64_t begin,
                            int64_t end) {
  tape_.clear();
  arena_.reset();
  for (int64_t i = begin; i < end; ++i) sample_ids_[static_cast<size_t>(i - begin)] = i;
  const std::span<const int64_t> ids{sample_ids_.data(), static_cast<size_t>(end - begin)};
  nn::Forward f{.tape = tape_,
                .mode = nn::Mode::kTrain,
                .precision = model_.network->precision(),
                .seed = seed_of(config_, replay),
                .step = step,
                .sample_ids = ids};
  const ViewLabels labels(batch, config_.model.classes, several_, config_.train.loss == "softmax");
  const Tensor neighbours =
      adversary_ != nullptr ? tape_.input(attacked(batch, step, begin, ids)) : Tensor{};
  const bool two_passes = adversary_ != nullptr && adversary_->keeps_images();
  const Tensor images = shown(batch, neighbours, begin, end);
  const Tensor targets = mixer_.softens() ? mixer_.targets(arena_, labels, begin, end)
                                          : labels_of(batch).rows(begin, end);
  const bool looks = looks_at_pairs_ && config_.data.two_view;
  const Tensor match =
      objective_.compares_pairs() || looks ? match_of(batch).rows(begin / 2, end / 2) : Tensor{};
  model_.network->forward(f, images, output_);
  if (two_passes) {
    nn::Forward second = f;
    second.seed = adversary_->second_seed();
    model_.network->forward(second, neighbours, second_);
  }
  LossTerms terms;
  const Tensor loss = objective_.loss(f, output_, targets, match, batch.views, terms,
                                      two_passes ? &second_ : nullptr);
  if (!std::isfinite(terms.total)) report_non_finite(step, "loss", terms.total);
  result_.loss.add(terms);
  count(labels, begin);
  if (looks) add_pairs(match);
  tape_.backward(loss, Tensor(&seed_gradient_, {1}, engine::Dtype::kF32, engine::Device::kCpu));
  if (noise_ != nullptr) noise_->climb(begin);
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
  for (int64_t begin = 0; begin < batch.views; begin += micro) {
    micro_batch(batch, step, replay, begin, std::min(batch.views, begin + micro));
  }
  for (size_t l = 0; l < matrices_.size(); ++l) {
    if (matrices_[l].pairs() == 0) continue;
    result_.layers[l].pairs = matrices_[l].pairs();
    result_.layers[l].s = matrices_[l].matrix();
  }
  result_.gradient_norm = optimizer_.gradient_norm();
  if (!std::isfinite(result_.gradient_norm)) {
    report_non_finite(step, "gradient norm", result_.gradient_norm);
  }
  result_.learning_rate = learning_rate(config_.schedule, step, steps_, config_.train.epochs);
  const int64_t replays = noise_ != nullptr ? config_.adversarial.replays : 1;
  optimizer_.step(step * replays + replay, result_.learning_rate, result_.gradient_norm);
}

const StepResult& TrainStep::run(const data::Batch& batch, int64_t step) {
  check(batch.views <= static_cast<int64_t>(sample_ids_.size()), ErrorKind::kInternal,
        "a batch of ", batch.views, " views for steps of ", sample_ids_.size());
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
