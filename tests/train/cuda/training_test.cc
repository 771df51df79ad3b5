#include <doctest/doctest.h>

#include <cmath>

#include "tests/train/cuda/device_training.h"
#include "train/device.h"

using engine::Device;
using engine::test::cuda_available;
using engine::test::same_bits;
using train::Config;
using train::test::check_checkpoints;
using train::test::check_evaluation;
using train::test::check_training;
using train::test::Settings;
using train::test::Trained;
using train::test::training;
using train::test::with;

namespace {

const Settings kPrc = {"train.batch=16",     "data.two_view=true", "prc.form=paper",
                       "optimizer.clip=1",   "train.ema=0.9",      "schedule.peak=0.003",
                       "train.micro_batch=8"};

}  // namespace

TEST_CASE("cuda: training as on the CPU, with every loss and option" *
          doctest::skip(!cuda_available())) {
  const Settings cases[] = {
      {},
      {"prc.form=fork", "moe.importance_weight=0.01", "moe.load_weight=0.01"},
      {"prc.form=jsd", "prc.weight=0.5", "moe.entropy_weight=0.1"},
      {"prc.form=l2", "prc.weight=0.5", "moe.gshard_weight=0.1"},
      {"moe.expert_dropout=0.2", "moe.bf16_dispatch=true"},
      {"moe.dispatch=capacity", "moe.capacity_factor=0.6", "moe.group_images=4"},
      {"moe.dispatch=capacity", "moe.capacity_factor=0.6", "moe.batch_priority=true",
       "moe.expert_dropout=0.2", "moe.dropout_mask=slot"},
      {"moe.chooser=experts", "moe.capacity_factor=1"},
      {"model.pool=mean", "model.gelu=erf", "model.pre_logits=true", "train.loss=sigmoid"},
      {"model.stochastic_depth=0.3", "train.label_smoothing=0.1"},
      {"optimizer.name=sgd", "optimizer.nesterov=true", "optimizer.momentum=0.9",
       "optimizer.weight_decay=0.01"},
      {"moe.layers=none", "prc.form=none"},
  };
  for (const Settings& more : cases) {
    CAPTURE(more.empty() ? "" : more[0]);
    check_training(with(kPrc, more));
  }
}

TEST_CASE("cuda: Soft MoE as on the CPU" * doctest::skip(!cuda_available())) {
  check_training({"train.batch=16", "moe.chooser=soft"});
}

TEST_CASE("cuda: mixed images as on the CPU" * doctest::skip(!cuda_available())) {
  check_training({"train.batch=16", "augment.mixup=0.4"});
  check_training({"train.batch=16", "augment.cutmix=1"});
}

TEST_CASE("cuda: 20 steps repeat their bits" * doctest::skip(!cuda_available())) {
  const Trained once = training(Device::kCuda, kPrc, 20), again = training(Device::kCuda, kPrc, 20);
  CHECK(same_bits(once.weights, again.weights));
  CHECK(once.losses == again.losses);
}

TEST_CASE("cuda: bf16 and tf32 learn what f32 learns" * doctest::skip(!cuda_available())) {
  const Trained want = training(Device::kCuda, kPrc, 2);
  for (const char* precision : {"train.precision=bf16", "train.precision=tf32"}) {
    CAPTURE(precision);
    const Trained got = training(Device::kCuda, with(kPrc, {precision}), 2);
    CHECK(std::abs(got.losses[1] - want.losses[1]) < 0.02 * want.losses[1]);
    CHECK(got.losses != want.losses);
  }
}

TEST_CASE("cuda: evaluation and routing as on the CPU" * doctest::skip(!cuda_available())) {
  check_evaluation("shapes:size=16,train=8,test=40", {"eval.batch=16"});
}

TEST_CASE("cuda: a checkpoint of one device goes on on the other" *
          doctest::skip(!cuda_available())) {
  check_checkpoints({});
}

TEST_CASE("cuda: a device that is not there is an error, one that is has a name" *
          doctest::skip(!cuda_available())) {
  CHECK_THROWS_AS(train::open_device("cuda:99"), engine::Error);
  CHECK_THROWS_AS(train::open_device("cuda:x"), engine::Error);
  CHECK_THROWS_AS(train::open_device("gpu"), engine::Error);
  CHECK(train::device_text(Device::kCuda).starts_with("cuda, "));
}

TEST_CASE("a device that this build or machine lacks is an error" *
          doctest::skip(cuda_available())) {
  CHECK(train::open_device("cpu") == Device::kCpu);
  CHECK_THROWS_AS(train::open_device("cuda"), engine::Error);
}

TEST_CASE("tf32 is refused on the CPU") {
  Config config;
  train::set_value(config, "train.precision=tf32");
  CHECK_THROWS_AS(train::check_runs_on(config, Device::kCpu), engine::Error);
}
