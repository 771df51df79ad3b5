#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/devices.h"
#include "tests/train/small_run.h"
#include "train/train_step.h"

using engine::Device;
using engine::Slab;
using engine::test::cuda_available;
using engine::test::download;
using engine::test::same_bits;
using train::Config;

namespace {

using Settings = std::vector<std::string>;

struct Steps {
  std::vector<double> numbers;  // of every step: what it reports
  std::vector<float> weights;
};

Steps steps(const Settings& settings, bool replay, int count) {
  const auto set = data::open_dataset("shapes:size=16,train=64,test=10", data::Split::kTrain);
  const Config config = train::test::small_config(*set, settings);
  train::Model model(config, true, engine::Dtype::kF32, Device::kCuda);
  train::TrainStep step(config, model, 100);
  step.replay(replay);
  data::Loader loader(*set, train::training_loader(config, Device::kCuda));
  Steps out;
  for (int i = 0; i < count; ++i) {
    step.look_at_pairs(i == 2);
    const train::StepResult& r = step.run(*loader.next(), i, &loader);
    const train::LossTerms& loss = r.loss;
    for (const double x :
         {loss.total, loss.cross_entropy, loss.importance, loss.load, loss.gshard, loss.entropy,
          loss.prc, loss.prc_diagonal, loss.prc_off_diagonal, static_cast<double>(loss.prc_pairs),
          r.gradient_norm, r.learning_rate, static_cast<double>(r.correct)}) {
      out.numbers.push_back(x);
    }
    for (const train::LayerLoad& layer : r.layers) {
      for (const int64_t n : layer.tokens) out.numbers.push_back(static_cast<double>(n));
      out.numbers.push_back(static_cast<double>(layer.dropped));
      out.numbers.insert(out.numbers.end(), layer.s.begin(), layer.s.end());
    }
    CHECK(step.replays() == (replay && config.train.micro_batch == 0));
    CHECK(step.replaying() == (step.replays() && i >= 2));
  }
  out.weights = download<float>(model.params.slab(Slab::kValue));
  return out;
}

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

}  // namespace

// Router noise, dropout, skipped branches, pairs, mixed images, the rate: all differ from step to
// step, so a graph that kept those of the step it was recorded in would part from the other run.
TEST_CASE("cuda: replayed steps are the steps themselves, to the bit" *
          doctest::skip(!cuda_available())) {
  const Settings prc = {"train.batch=8", "data.two_view=true", "prc.form=paper", "optimizer.clip=1",
                        "train.ema=0.9"};
  const Settings cases[] = {
      prc,
      with(prc, {"prc.pairs=shuffled", "prc.form=fork", "moe.expert_dropout=0.2",
                 "model.stochastic_depth=0.3", "moe.load_weight=0.01"}),
      with(prc, {"prc.form=l2", "prc.weight=0.5", "moe.expert_dropout=0.2", "moe.dispatch=capacity",
                 "moe.dropout_mask=slot"}),
      {"train.batch=8", "augment.mixup=0.4", "train.precision=bf16", "moe.chooser=experts"},
      {"train.batch=8", "moe.chooser=soft"},
      {"train.batch=4", "model.kind=resnet18", "model.first_width=4", "moe.layers=none",
       "train.ema=0.9"},
  };
  for (const Settings& settings : cases) {
    CAPTURE(settings.back());
    const Steps want = steps(settings, false, 4), got = steps(settings, true, 4);
    CHECK(got.numbers == want.numbers);
    CHECK(same_bits(got.weights, want.weights));
  }
}

TEST_CASE("cuda: steps of several micro-batches are not replayed" *
          doctest::skip(!cuda_available())) {
  (void)steps({"train.batch=8", "train.micro_batch=4", "moe.group_images=4"}, true, 4);
}

TEST_CASE("cuda: a loss that is not finite changes no weight, replayed or not" *
          doctest::skip(!cuda_available())) {
  for (const int before : {0, 4}) {
    CAPTURE(before);
    const auto set = data::open_dataset("shapes:size=16,train=64,test=10", data::Split::kTrain);
    const Config config = train::test::small_config(*set, {"train.batch=8"});
    train::Model model(config, true, engine::Dtype::kF32, Device::kCuda);
    train::TrainStep step(config, model, 100);
    data::Loader loader(*set, train::training_loader(config, Device::kCuda));
    for (int i = 0; i < before; ++i) step.run(*loader.next(), i, &loader);
    CHECK(step.replaying() == (before > 0));
    const engine::Tensor there = model.params.slab(Slab::kValue);
    std::vector<float> weights = download<float>(there);
    weights[5] = std::numeric_limits<float>::quiet_NaN();
    engine::device_copy(Device::kCuda, there.raw(), Device::kCpu, weights.data(), there.bytes());
    CHECK_THROWS_WITH_AS(step.run(*loader.next(), before),
                         doctest::Contains("the loss is not finite"), engine::Error);
    CHECK(same_bits(download<float>(there), weights));
  }
}
