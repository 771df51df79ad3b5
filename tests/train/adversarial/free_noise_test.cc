// Free adversarial training: what the noise does to images and weights, and where it is kept.
#include "train/adversarial/free_noise.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "tests/support/heap_counter.h"
#include "tests/train/small_run.h"
#include "train/attacks/pixel_range.h"
#include "train/schedule.h"
#include "train/train_step.h"

using engine::Slab;
using engine::Tensor;
using engine::test::copy_of;
using train::Config;
using train::LossTerms;
using train::StepResult;
using train::test::run;
using train::test::TempFolder;

namespace {

using Settings = std::vector<std::string>;

constexpr const char* kData = "shapes:size=16,train=64,test=32";
constexpr float kEps = 4.0f / 255;
const Settings kFree = {"adversarial.kind=free", "adversarial.eps=4/255", "adversarial.step=3/255",
                        "adversarial.replays=3", "train.batch=16",        "schedule.peak=0.01"};
const Settings kResnet = {"model.kind=resnet18", "model.first_width=4", "moe.layers=none",
                          "augment.mean=0.4,0.5,0.6", "augment.stddev=0.2,0.25,0.3"};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

// A model with decided weights and the batches it learns from.
struct Training {
  explicit Training(const Settings& settings)
      : set(data::open_dataset(kData, data::Split::kTrain)),
        config(train::test::small_config(*set, with(kFree, settings))),
        model(config, true),
        step(config, model, 10),
        loader(*set, train::training_loader(config)) {
    const engine::RngKey key(1, engine::Purpose::kTest);
    for (const auto& entry : model.params.entries()) {
      const Tensor w = model.params.view(entry, Slab::kValue);
      for (int64_t i = 0; i < w.numel() && entry.trainable; ++i) {
        w.data<float>()[i] +=
            0.05f * static_cast<float>(key.normal(static_cast<uint64_t>(entry.offset + i)));
      }
    }
  }

  std::vector<float> weights() const { return copy_of<float>(model.params.slab(Slab::kValue)); }
  std::vector<float> noise() const { return copy_of<float>(step.state().at(0).tensor); }

  std::unique_ptr<data::Dataset> set;
  Config config;
  train::Model model;
  train::TrainStep step;
  data::Loader loader;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  }
  return largest;
}

double share_of_others(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double others = 0;
  for (size_t i = 0; i < a.size(); ++i) others += std::abs(a[i] - b[i]) > 1e-6f ? 1 : 0;
  return others / static_cast<double>(a.size());
}

// One replay by hand, on the model of `t`; moves its weights and `noise`. Images at once.
LossTerms replay_by_hand(Training& t, train::Optimizer& optimizer, const data::Batch& batch,
                         std::vector<float>& noise, int64_t replay) {
  const Tensor images = train::pixels_of(batch, t.config);
  const auto size = static_cast<size_t>(images.numel());
  std::vector<float> pixels(size), shown(size), gradient(size, 0.0f);
  std::vector<bool> inside(size);
  train::unnormalise_pixels(t.config, {images.data<const float>(), size}, pixels);
  for (size_t i = 0; i < size; ++i) {
    pixels[i] += noise[i];
    inside[i] = pixels[i] >= 0 && pixels[i] <= 1;
    pixels[i] = std::min(1.0f, std::max(0.0f, pixels[i]));
  }
  train::normalise_pixels(t.config, pixels, shown);
  std::vector<int64_t> ids(static_cast<size_t>(batch.views));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  const engine::RngKey other = engine::RngKey(0, engine::Purpose::kAttack);
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = nn::Mode::kTrain,
                .seed = replay == 0 ? 0 : other.with(static_cast<uint64_t>(replay)).value(),
                .step = batch.step,
                .sample_ids = ids};
  moe::ModelOutput out;
  LossTerms terms;
  t.model.network->forward(f,
                           tape.leaf(engine::test::view(shown, images.shape()),
                                     engine::test::view(gradient, images.shape())),
                           out);
  const Tensor loss =
      train::Objective(t.config).loss(f, out, train::labels_of(batch), {}, batch.views, terms);
  const std::vector<float> one = {1};
  tape.backward(loss, engine::test::view(one, {1}));
  for (size_t i = 0; i < size; ++i) {
    if (!inside[i] || gradient[i] == 0) continue;
    const float moved = noise[i] + (gradient[i] > 0 ? 3.0f / 255 : -3.0f / 255);
    noise[i] = std::min(kEps, std::max(-kEps, moved));
  }
  const double rate = train::learning_rate(t.config.schedule, batch.step, 10);
  optimizer.step(batch.step * 3 + replay, rate, optimizer.gradient_norm());
  return terms;
}

}  // namespace

TEST_CASE("free: replays as one would write them down, noise kept from batch to batch") {
  // Adam counts updates, a schedule batches; a balance loss counts once.
  const Settings vit = {"moe.importance_weight=0.3", "moe.load_weight=0.2"};
  for (const Settings& settings : {kResnet, vit}) {
    CAPTURE(settings[0]);
    Training run(settings), other(settings);
    train::Optimizer optimizer(other.config, other.model.params);
    std::vector<float> noise(run.noise().size(), 0.0f);
    CHECK(run.noise() == noise);
    for (int64_t step = 0; step < 2; ++step) {
      const StepResult& result = run.step.run(*run.loader.next(), step);
      const data::Batch& batch = *other.loader.next();
      LossTerms terms;
      for (int64_t replay = 0; replay < 3; ++replay) {
        terms = replay_by_hand(other, optimizer, batch, noise, replay);
      }
      CHECK(result.loss.total == doctest::Approx(terms.total).epsilon(1e-4));
      CHECK(result.loss.importance == doctest::Approx(terms.importance).epsilon(1e-4));
      CHECK(result.learning_rate == train::learning_rate(run.config.schedule, step, 10));
      CHECK(result.views == 16);
      CHECK(share_of_others(run.noise(), noise) < 0.01);
      CHECK(largest_difference(run.weights(), other.weights()) < 1e-4);
    }
    const std::vector<float> now = run.noise();
    CHECK(*std::ranges::max_element(now) == kEps);
    CHECK(*std::ranges::min_element(now) == -kEps);
  }
}

TEST_CASE("free: without noise it is plain training that sees each batch several times") {
  const Settings quiet = {"adversarial.eps=0", "moe.noise_std=0", "moe.load_weight=0",
                          "schedule.kind=constant", "optimizer.name=sgd"};
  Training free(quiet), plain(with(quiet, {"adversarial.kind=none"}));
  const data::Batch& batch = *plain.loader.next();
  LossTerms last;
  for (int64_t step = 0; step < 3; ++step) last = plain.step.run(batch, step).loss;
  const StepResult& result = free.step.run(*free.loader.next(), 0);
  CHECK(result.loss.total == doctest::Approx(last.total).epsilon(1e-5));
  CHECK(largest_difference(free.weights(), plain.weights()) < 1e-5);
  for (const float x : free.noise()) CHECK(x == 0);
  CHECK(plain.step.state().empty());
}

TEST_CASE("free: each replay has router noise of its own") {
  const Settings frozen = {"adversarial.eps=0", "schedule.peak=1e-30", "moe.noise_std=4"};
  Training once(with(frozen, {"adversarial.replays=1"})), thrice(frozen);
  const double one = once.step.run(*once.loader.next(), 0).loss.total;
  const double three = thrice.step.run(*thrice.loader.next(), 0).loss.total;
  CHECK(std::abs(one - three) > 1e-6);
}

TEST_CASE("free: the noise makes the loss larger") {
  const Settings frozen = with(kResnet, {"schedule.peak=1e-30"});
  Training none(with(frozen, {"adversarial.eps=0"})), some(frozen);
  const double clean = none.step.run(*none.loader.next(), 0).loss.cross_entropy;
  CHECK(some.step.run(*some.loader.next(), 0).loss.cross_entropy > clean + 0.01);
}

TEST_CASE("free: noise belongs to a place of the batch, whatever the micro-batch") {
  const Settings alone = {"moe.importance_weight=0", "moe.load_weight=0", "optimizer.name=sgd"};
  Training whole(alone), parts(with(alone, {"train.micro_batch=4"}));
  const StepResult one = whole.step.run(*whole.loader.next(), 0);
  const StepResult& sum = parts.step.run(*parts.loader.next(), 0);
  CHECK(sum.loss.total == doctest::Approx(one.loss.total).epsilon(1e-4));
  CHECK(share_of_others(parts.noise(), whole.noise()) < 0.01);
  CHECK(largest_difference(parts.weights(), whole.weights()) < 1e-3);
}

TEST_CASE("free: same bits for threads") {
  for (const Settings& settings : {kResnet, Settings{"train.micro_batch=8"}}) {
    CHECK(engine::test::same_bits_for_threads([&] {
      Training t(settings);
      for (int64_t step = 0; step < 2; ++step) t.step.run(*t.loader.next(), step);
      std::vector<float> all = t.weights();
      const std::vector<float> noise = t.noise();
      all.insert(all.end(), noise.begin(), noise.end());
      return all;
    }));
  }
}

TEST_CASE("free: a warm step makes no heap allocation" *
          doctest::skip(!engine::test::HeapCounter::available())) {
  const engine::test::Threads threads(1);
  for (const Settings& settings : {kResnet, Settings{"train.micro_batch=8"}}) {
    Training t(settings);
    const data::Batch* batch = t.loader.next();
    engine::test::HeapCounter::track_this_thread();
    for (int64_t i = 0; i < 3; ++i) t.step.run(*batch, i);
    const engine::test::HeapCounter heap;
    t.step.run(*batch, 3);
    const int64_t count = heap.count();
    engine::test::HeapCounter::track_all_threads();
    CHECK(count == 0);
  }
}

TEST_CASE("free: a resumed run has the same bits, noise included") {
  const TempFolder folder;
  const Settings free = {"adversarial.kind=free", "adversarial.eps=4/255", "adversarial.step=4/255",
                         "adversarial.replays=2"};
  run(folder / "straight", free);
  const std::string model = train::test::file_of_step(folder / "straight", 12, "model.safetensors");
  const std::string state = train::test::file_of_step(folder / "straight", 12, "state.safetensors");
  CHECK(train::test::contains(state, "adversarial/noise"));
  const std::string dir = folder / "stopped";
  for (int stops = 0; stops < 3; ++stops) {
    CHECK(run(dir, free, {.resume = stops > 0, .stop = true}) == train::Outcome::kStopped);
  }
  CHECK(run(dir, free, {.resume = true}) == train::Outcome::kDone);
  CHECK(train::test::file_of_step(dir, 12, "model.safetensors") == model);
  CHECK(train::test::file_of_step(dir, 12, "state.safetensors") == state);
  run(folder / "plain");
  CHECK_FALSE(train::test::contains(
      train::test::file_of_step(folder / "plain", 12, "state.safetensors"), "adversarial/"));
}

TEST_CASE("free: a state that no run can have is refused") {
  Training t({});
  t.step.run(*t.loader.next(), 0);
  CHECK_NOTHROW(t.step.check_state("run/step-1"));
  float* noise = t.step.state().at(0).tensor.data<float>();
  for (const float wrong : {0.1f, -0.1f, std::nanf("")}) {
    noise[7] = wrong;
    CHECK(engine::test::caught([&] {
            t.step.check_state("run/step-1");
          }).is(engine::ErrorKind::kFormat, {"run/step-1", "adversarial.eps", "4/255"}));
  }
}
