#include "train/train_step.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "tests/support/heap_counter.h"
#include "tests/support/sanitized.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"

using engine::Slab;
using engine::test::copy_of;
using train::Config;
using train::StepResult;
using train::TrainStep;

namespace {

using Settings = std::vector<std::string>;

// A small model with everything a step needs. While it lives, there are so many threads.
struct Run {
  explicit Run(const Settings& settings, int thread_count = 1)
      : Run("shapes:size=16,train=64,test=10", thread_count,
            [&](const data::Dataset& set) { return train::test::small_config(set, settings); }) {}
  template <class MakeConfig>
  Run(const char* source, int thread_count, MakeConfig make_config)
      : threads(thread_count),
        data(data::open_dataset(source, data::Split::kTrain)),
        config(make_config(*data)),
        model(config, true),
        step(config, model, 100),
        loader(*data, train::training_loader(config)) {}

  const StepResult& next() {
    batch = loader.next();
    return step.run(*batch, batch->step);
  }
  std::vector<float> slab(Slab which) const { return copy_of<float>(model.params.slab(which)); }

  engine::test::Threads threads;
  std::unique_ptr<data::Dataset> data;
  Config config;
  train::Model model;
  TrainStep step;
  data::Loader loader;
  const data::Batch* batch = nullptr;
};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

// Without momentum and clipping the first moment is the gradient.
const Settings kPlain = {"optimizer.name=sgd", "optimizer.momentum=0", "schedule.kind=constant",
                         "schedule.peak=0.1", "train.batch=32"};
const Settings kEverything = {"train.batch=32",        "data.two_view=true", "prc.form=paper",
                              "optimizer.clip=1",      "train.ema=0.9",      "schedule.peak=0.01",
                              "moe.expert_dropout=0.1"};

// max |a - b| / max |b|
double relative(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  CHECK(largest > 1e-3);
  return worst / largest;
}

// Random weights: a fresh head is zero and costs the same whatever the label.
void decide(train::Model& model) {
  const engine::Tensor weights = model.params.slab(Slab::kValue);
  const engine::RngKey key(1, engine::Purpose::kTest);
  for (int64_t i = 0; i < weights.numel(); ++i) {
    weights.data<float>()[i] += 0.1f * static_cast<float>(key.normal(static_cast<uint64_t>(i)));
  }
}

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-6); }

}  // namespace

TEST_CASE("train_step: micro-batches give the gradient of the whole batch") {
  for (const char* form : {"softmax", "sigmoid"}) {
    const Settings settings =
        with(kPlain, {"moe.importance_weight=0", "moe.load_weight=0", "moe.expert_dropout=0.2",
                      std::string("train.loss=") + form});
    Run whole(settings);
    const StepResult one = whole.next();
    for (const char* micro : {"16", "8", "4", "1"}) {
      CAPTURE(micro);
      Run parts(with(settings, {std::string("train.micro_batch=") + micro}));
      const StepResult& sum = parts.next();
      CHECK(relative(parts.slab(Slab::kMoment1), whole.slab(Slab::kMoment1)) < 1e-6);
      CHECK(relative(parts.slab(Slab::kValue), whole.slab(Slab::kValue)) < 1e-6);
      CHECK(sum.loss.total == near(one.loss.total));
      CHECK(sum.gradient_norm == near(one.gradient_norm));
      CHECK(sum.correct == one.correct);
      CHECK(sum.views == 32);
      // The router noise is that of the image's place in the step: the same choices.
      for (size_t l = 0; l < 2; ++l) CHECK(sum.layers[l].tokens == one.layers[l].tokens);
    }
    Run quiet(with(settings, {"moe.noise_std=0"}));
    quiet.next();
    CHECK(relative(quiet.slab(Slab::kMoment1), whole.slab(Slab::kMoment1)) > 1e-4);
  }
}

TEST_CASE("train_step: balance losses are of groups of images, whatever the micro-batch") {
  const Settings settings = with(kPlain, {"moe.importance_weight=2", "moe.load_weight=3"});
  Run whole(with(settings, {"moe.group_images=8"}));
  const StepResult one = whole.next();
  CHECK(one.loss.importance > 1e-3);
  CHECK(one.loss.load > 1e-3);
  for (const char* micro : {"8", "16"}) {
    Run parts(with(settings, {"moe.group_images=8", std::string("train.micro_batch=") + micro}));
    const StepResult& sum = parts.next();
    CHECK(sum.loss.importance == near(one.loss.importance));
    CHECK(sum.loss.load == near(one.loss.load));
    CHECK(relative(parts.slab(Slab::kMoment1), whole.slab(Slab::kMoment1)) < 2e-6);
  }
  Run larger(with(settings, {"moe.group_images=16"}));
  CHECK(larger.next().loss.load < 0.99 * one.loss.load);
}

TEST_CASE("train_step: the terms add up to the total") {
  for (const char* micro : {"0", "16"}) {
    Run run(with(kEverything, {std::string("train.micro_batch=") + micro}));
    const train::LossTerms loss = run.next().loss;
    CHECK(loss.cross_entropy == doctest::Approx(std::log(10)).epsilon(0.2));
    for (const double term : {loss.importance, loss.load, loss.prc}) CHECK(term > 0);
    CHECK(loss.gshard == 0);
    CHECK(loss.entropy == 0);
    CHECK(loss.total == near(loss.cross_entropy + loss.importance + loss.load + loss.prc));
    Run more(with(kEverything, {std::string("train.micro_batch=") + micro, "prc.form=jsd",
                                "moe.gshard_weight=0.1", "moe.entropy_weight=0.2"}));
    const train::LossTerms other = more.next().loss;
    CHECK(other.importance == loss.importance);
    // Two layers of 4 experts, near-uniform at the start.
    CHECK(other.gshard == doctest::Approx(0.1 * 2).epsilon(0.1));
    CHECK(other.entropy == doctest::Approx(0.2 * 2 * std::log(4)).epsilon(0.2));
    CHECK(other.prc > 0);
    CHECK(other.total == near(other.cross_entropy + other.importance + other.load + other.gshard +
                              other.entropy + other.prc));
  }
  // Weights are applied: half the weight, half the term.
  Run full(kEverything), half(with(kEverything, {"moe.importance_weight=0.0025"}));
  const double term = full.next().loss.importance;
  CHECK(half.next().loss.importance == near(term / 2));
}

TEST_CASE("train_step: terms of PRC") {
  for (const bool class_token : {true, false}) {
    Run run(with(kEverything, {"prc.lambda_diag=0.3", "prc.lambda_off=0.7",
                               class_token ? "prc.class_token=true" : "prc.class_token=false"}));
    const train::LossTerms loss = run.next().loss;
    const auto matches =
        std::ranges::count_if(run.batch->match, [](int32_t patch) { return patch >= 0; });
    CHECK(matches > 16);
    CHECK(loss.prc_pairs == matches + (class_token ? 16 : 0));
    CHECK(loss.prc == near(2 * (0.3 * loss.prc_diagonal + 0.7 * loss.prc_off_diagonal)));
  }
  Run matched(kEverything), shuffled(with(kEverything, {"prc.pairs=shuffled"})),
      none(with(kEverything, {"prc.form=none"}));
  const train::LossTerms a = matched.next().loss, b = shuffled.next().loss, c = none.next().loss;
  CHECK(a.prc_pairs == b.prc_pairs);
  CHECK(a.prc != b.prc);
  CHECK(a.cross_entropy == b.cross_entropy);
  CHECK(c.prc == 0);
  CHECK(c.prc_pairs == 0);
}

TEST_CASE("train_step: distances in the place of PRC, and which router outputs pairs compare") {
  for (const char* form : {"prc.form=paper", "prc.form=l2", "prc.form=jsd"}) {
    Run clean(with(kEverything, {form})), noisy(with(kEverything, {form, "prc.router=noisy"})),
        quiet(
            with(kEverything, {form, "prc.router=noisy", "moe.noise_std=0", "moe.load_weight=0"})),
        quiet_clean(with(kEverything, {form, "moe.noise_std=0", "moe.load_weight=0"}));
    CHECK(clean.next().loss.prc != noisy.next().loss.prc);
    CHECK(quiet.next().loss.prc == quiet_clean.next().loss.prc);
  }
  Run once(with(kEverything, {"prc.form=l2"})),
      thrice(with(kEverything, {"prc.form=l2", "prc.weight=3"}));
  const train::LossTerms a = once.next().loss, b = thrice.next().loss;
  CHECK(b.prc == near(3 * a.prc));
  CHECK(a.prc_pairs > 0);
  CHECK(a.prc_diagonal == 0);
}

TEST_CASE("train_step: accuracy and loads are those of the step's own views") {
  Run run(with(kPlain, {"moe.noise_std=0", "moe.load_weight=0", "train.micro_batch=8"}));
  for (int step = 0; step < 12; ++step) run.next();
  // Without noise, evaluation computes what the next training step will see.
  run.batch = run.loader.next();
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape, .sample_ids = {}};
  moe::ModelOutput out;
  run.model.network->forward(f, tape.input(train::pixels_of(*run.batch, run.config)), out);
  const std::vector<float> logits = copy_of<float>(out.logits);
  int64_t correct = 0;
  for (int64_t i = 0; i < 32; ++i) {
    const auto row = logits.begin() + i * 10;
    correct += std::max_element(row, row + 10) - row == run.batch->labels[static_cast<size_t>(i)];
  }
  const StepResult& result = run.step.run(*run.batch, run.batch->step);
  CHECK(result.correct == correct);
  CHECK(correct > 0);
  CHECK(correct < 32);
  CHECK(result.learning_rate == 0.1);
  REQUIRE(result.layers.size() == 2);
  for (size_t l = 0; l < 2; ++l) {
    CHECK(result.layers[l].layer == static_cast<int64_t>(l));
    CHECK(result.layers[l].choices == 32 * 17 * 2);
    CHECK(result.layers[l].dropped == 0);
    const auto offset = copy_of<int32_t>(out.routings[l].offset);
    for (size_t e = 0; e < 4; ++e) {
      CHECK(result.layers[l].tokens[e] == offset[e + 1] - offset[e]);
    }
  }
}

TEST_CASE("train_step: choices without a slot are counted") {
  Run run(with(kPlain, {"moe.dispatch=capacity", "moe.capacity_factor=0.5", "moe.group_images=8",
                        "train.micro_batch=16"}));
  const StepResult& result = run.next();
  for (const train::LayerLoad& layer : result.layers) {
    int64_t served = 0;
    for (const int64_t n : layer.tokens) served += n;
    CHECK(layer.choices == 32 * 17 * 2);
    CHECK(layer.dropped > 300);
    CHECK(served == layer.choices - layer.dropped);
  }
}

TEST_CASE("train_step: a loss that is not finite names step and op and changes no weight") {
  struct Case {
    const char *parameter, *op;
  };
  for (const Case& c :
       {Case{"blocks.1.attention.qkv.weight", "blocks.1/"}, Case{"head.output.bias", "head/"}}) {
    CAPTURE(c.parameter);
    Run run(with(kPlain, {"train.micro_batch=16"}));
    run.next();
    engine::ParamStore& params = run.model.params;
    float* weight = params.view(params.find(c.parameter), Slab::kValue).data<float>();
    weight[0] = std::numeric_limits<float>::infinity();
    const auto before = run.slab(Slab::kValue), moment = run.slab(Slab::kMoment1);
    const std::string message =
        train::test::error_of(engine::ErrorKind::kValue, [&] { run.next(); });
    CAPTURE(message);
    CHECK(train::test::contains(message, "step 2: "));
    CHECK(train::test::contains(message, "not finite"));
    CHECK(train::test::contains(message, std::string("first in ") + c.op));
    CHECK(message.find('\n') == std::string::npos);
    CHECK(engine::test::same_bytes(run.slab(Slab::kValue), before));
    CHECK(engine::test::same_bytes(run.slab(Slab::kMoment1), moment));
  }
}

TEST_CASE("train_step: a gradient that overflows changes no weight") {
  Run run(with(kPlain, {"moe.importance_weight=0", "moe.load_weight=0"}));
  run.next();
  // As if an earlier micro-batch's gradient had overflowed on the way back.
  run.model.params.slab(Slab::kGrad).data<float>()[5] = std::numeric_limits<float>::infinity();
  const auto before = run.slab(Slab::kValue);
  const std::string message = train::test::error_of(engine::ErrorKind::kValue, [&] { run.next(); });
  CAPTURE(message);
  CHECK(train::test::contains(message, "gradient norm is not finite"));
  CHECK(engine::test::same_bytes(run.slab(Slab::kValue), before));
}

// Weights, moments and averaged weights after some steps on all threads.
std::vector<float> trained(const Settings& settings, int steps) {
  Run run(settings, omp_get_max_threads());
  for (int step = 0; step < steps; ++step) run.next();
  std::vector<float> all = run.slab(Slab::kValue);
  for (const Slab slab : {Slab::kMoment1, Slab::kMoment2, Slab::kEma}) {
    const auto more = run.slab(slab);
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

TEST_CASE("train_step: same bits after 20 steps with 1, 2 and 5 threads") {
  const Settings settings = with(kEverything, {"train.micro_batch=16"});
  const int64_t steps = engine::test::kSanitized ? 3 : 20;
  CHECK(engine::test::same_bits_for_threads([&] { return trained(settings, steps); }));
}

TEST_CASE("train_step: same bits after 50 steps in bf16 with 1, 2 and 5 threads") {
  const Settings settings = with(kEverything, {"train.precision=bf16"});
  const int64_t steps = engine::test::kSanitized ? 3 : 50;
  CHECK(engine::test::same_bits_for_threads([&] { return trained(settings, steps); }));
  CHECK_FALSE(engine::test::same_bytes(trained(settings, 1), trained(kEverything, 1)));
}

TEST_CASE("train_step: a warm step with its loader running makes no heap allocation" *
          doctest::skip(!engine::test::HeapCounter::available())) {
  for (const char* micro : {"0", "16"}) {
    Run run(with(kEverything, {"data.workers=1", std::string("train.micro_batch=") + micro}), 2);
    for (int step = 0; step < 5; ++step) run.next();
    const engine::test::HeapCounter heap;
    for (int step = 0; step < 10; ++step) run.next();
    const int64_t allocations = heap.count();
    CHECK(allocations == 0);
  }
}

TEST_CASE("train_step: no heap allocation with the other ways of routing and losses, either" *
          doctest::skip(!engine::test::HeapCounter::available())) {
  const std::vector<std::string> balance_off = {"moe.chooser=experts", "moe.importance_weight=0",
                                                "moe.load_weight=0"};
  for (const Settings& more :
       {Settings{"prc.form=jsd", "moe.gshard_weight=0.1", "moe.entropy_weight=0.1"},
        Settings{"prc.form=l2", "prc.router=noisy", "moe.bf16_dispatch=true"},
        Settings{"train.precision=bf16"},
        Settings{"moe.dispatch=capacity", "moe.batch_priority=true", "augment.randaugment=prc"},
        Settings{"moe.expert_dropout=0.1", "moe.dropout_mask=slot"}, Settings(balance_off),
        Settings{"prc.form=none", "augment.mixup=0.2", "augment.cutmix=1",
                 "augment.mix_granularity=example", "train.label_smoothing=0.1"},
        Settings{"moe.chooser=soft", "moe.importance_weight=0", "moe.load_weight=0",
                 "prc.form=none", "moe.expert_dropout=0.1", "moe.bf16_dispatch=true"}}) {
    CAPTURE(more.front());
    Run run(with(kEverything, more), 2);
    for (int step = 0; step < 5; ++step) run.next();
    const engine::test::HeapCounter heap;
    for (int step = 0; step < 5; ++step) run.next();
    const int64_t allocations = heap.count();
    CHECK(allocations == 0);
  }
}

TEST_CASE("train_step: cifar10-small-prc as it is, 2 threads, loader running: no heap allocation" *
          doctest::skip(!engine::test::HeapCounter::available())) {
  Run run("shapes:size=32,train=300", 2, [](const data::Dataset& set) {
    Config config = train::load_config("cifar10-small-prc");
    train::adapt_to_data(config, set.info());
    train::validate(config);
    return config;
  });
  CHECK(run.config.data.workers > 0);
  for (int step = 0; step < 2; ++step) run.next();
  const engine::test::HeapCounter heap;
  for (int step = 0; step < 3; ++step) run.next();
  const int64_t allocations = heap.count();
  CHECK(allocations == 0);
}

TEST_CASE("train_step: the number of steps") {
  Config config;
  config.train.batch = 32;
  config.train.epochs = 3;
  CHECK(train::total_steps(config, 100) == 10);  // 300 images, the last step reaches beyond
  config.data.two_view = true;
  CHECK(train::total_steps(config, 100) == 19);
  config.data.limit = 48;
  CHECK(train::total_steps(config, 100) == 9);
  config.data.limit = 4800;
  CHECK(train::total_steps(config, 100) == 19);
  config.train.steps = 7;
  CHECK(train::total_steps(config, 100) == 7);
  config.train.steps = config.train.epochs = 0;
  CHECK(train::test::error_of(engine::ErrorKind::kValue, [&] {
          train::total_steps(config, 100);
        }).find("train.epochs") != std::string::npos);
}

TEST_CASE("train_step: a mixed batch costs what its images' own and partners' labels cost") {
  const Settings quiet = with(kPlain, {"moe.importance_weight=0", "moe.load_weight=0"});
  for (const char* form : {"softmax", "sigmoid"}) {
    for (const char* mix : {"augment.mixup=0.8", "augment.cutmix=1"}) {
      CAPTURE(mix);
      const Settings settings =
          with(quiet, {std::string("train.loss=") + form, mix, "augment.mix_images=8"});
      Run run(settings);
      decide(run.model);
      const data::Batch batch = *run.loader.next();
      const StepResult got = run.step.run(batch, 0);

      // The same by hand: images mixed one by one, then each label with a model of its own.
      train::Mixer mixer(run.config);
      mixer.draw(0, 32);
      data::Batch own = batch, partners = batch;
      const int64_t side = run.config.model.image_size, area = side * side;
      const int64_t image = run.config.model.channels * area;
      for (int64_t n = 0; n < 32; ++n) {
        const engine::ImageMix& m = mixer.drawn()[static_cast<size_t>(n)];
        partners.labels[n] = batch.labels[m.partner];
        for (int64_t i = 0; i < image; ++i) {
          const int64_t y = i % area / side, x = i % side;
          const bool box = y >= m.y && y < m.y + m.height && x >= m.x && x < m.x + m.width;
          const float a = box ? 0 : m.own;
          own.pixels[n * image + i] =
              a * batch.pixels[n * image + i] + (1 - a) * batch.pixels[m.partner * image + i];
        }
      }
      partners.pixels = own.pixels;
      const engine::ImageMix& m = mixer.drawn()[0];
      const double seen = static_cast<double>(m.height * m.width) / static_cast<double>(area);
      const double share = m.own < 1 ? m.own : 1 - seen;
      CHECK((share > 0.02 && share < 0.98));
      const Settings plain = with(quiet, {std::string("train.loss=") + form});
      Run first(plain), second(plain);
      decide(first.model);
      decide(second.model);
      const StepResult one = first.step.run(own, 0), two = second.step.run(partners, 0);
      CHECK(got.loss.total ==
            near(share * one.loss.total + (1 - share) * two.loss.total).epsilon(2e-6));
      CHECK(got.loss.total != near(one.loss.total));
      CHECK(got.correct == one.correct);
      auto want = first.slab(Slab::kMoment1), other = second.slab(Slab::kMoment1);
      for (size_t i = 0; i < want.size(); ++i) {
        want[i] = static_cast<float>(share) * want[i] + static_cast<float>(1 - share) * other[i];
      }
      CHECK(relative(run.slab(Slab::kMoment1), want) < 5e-6);

      // Micro-batches do not change who is mixed with whom.
      Run parts(with(settings, {"train.micro_batch=4"}));
      decide(parts.model);
      CHECK(parts.step.run(batch, 0).loss.total == near(got.loss.total));
      CHECK(relative(parts.slab(Slab::kMoment1), run.slab(Slab::kMoment1)) < 2e-6);
    }
  }
}
