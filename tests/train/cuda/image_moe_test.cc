#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/train/cuda/device_training.h"

// Residual networks with mixtures of experts, trained and judged on a GPU.
using engine::Device;
using engine::test::cuda_available;
using engine::test::same_bits;
using train::test::check_checkpoints;
using train::test::check_evaluation;
using train::test::Settings;
using train::test::Trained;
using train::test::training;
using train::test::with;

namespace {

// Small, and with so many pixels in each batch norm that it amplifies no rounding.
const Settings kBlocks = {
    "model.kind=resnet18", "model.first_width=2", "moe.layers=blocks layer3.1",
    "moe.experts=3",       "moe.top_k=1",         "train.batch=16",
    "optimizer.name=sgd",  "schedule.peak=0.002"};
const Settings kTwo = {"moe.top_k=2", "image_moe.weight=normalised"};

void check_training(const Settings& settings) { train::test::check_training(settings, 0.1); }

}  // namespace

TEST_CASE("cuda: mixtures of blocks and convolutions train as on the CPU" *
          doctest::skip(!cuda_available())) {
  for (const char* layers : {"moe.layers=blocks layer3", "moe.layers=convs layer3"}) {
    CAPTURE(layers);
    check_training(with(with(kBlocks, kTwo), {layers}));
  }
}

TEST_CASE("cuda: mixtures train as on the CPU, with every router" *
          doctest::skip(!cuda_available())) {
  for (const char* router : {"conv-gap", "two-conv-gap", "random", "first-channels"}) {
    CAPTURE(router);
    check_training(
        with(kBlocks, {"image_moe.weight=plain", std::string("image_moe.router=") + router}));
  }
}

TEST_CASE("cuda: mixtures train as on the CPU, with every loss of theirs" *
          doctest::skip(!cuda_available())) {
  for (const char* balance : {"switch", "column-entropy", "variance", "none"}) {
    CAPTURE(balance);  // noisy selection with all but none
    check_training(with(kBlocks, {std::string("image_moe.balance=") + balance,
                                  "image_moe.balance_weight=0.5", "image_moe.spread_weight=0.5"}));
  }
}

TEST_CASE("cuda: mixtures train as on the CPU, with capacities and patches" *
          doctest::skip(!cuda_available())) {
  const Settings limited = {"moe.dispatch=capacity", "moe.capacity_factor=1.1",
                            "image_moe.balance=switch"};
  check_training(with(kBlocks, limited));
  check_training(with(with(kBlocks, limited), {"image_moe.grid=2", "moe.layers=convs layer2.1"}));
}

TEST_CASE("cuda: 20 steps with mixtures beside the CPU's" * doctest::skip(!cuda_available())) {
  const Settings settings = with(kBlocks, {"image_moe.balance=switch", "schedule.peak=0.0005"});
  const Trained want = training(Device::kCpu, settings, 20),
                got = training(Device::kCuda, settings, 20);
  for (size_t i = 0; i < want.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got.losses[i] - want.losses[i]) < 1e-3 * want.losses[i]);
  }
  CHECK(want.losses[0] != want.losses[19]);
  CHECK(got.tokens == want.tokens);
}

TEST_CASE("cuda: training with mixtures repeats its bits" * doctest::skip(!cuda_available())) {
  const Settings settings =
      with(kBlocks, {"image_moe.balance=switch", "moe.dispatch=capacity", "moe.capacity_factor=1.1",
                     "image_moe.spread_weight=0.5"});
  const Trained once = training(Device::kCuda, settings, 6),
                again = training(Device::kCuda, settings, 6);
  CHECK(same_bits(again.weights, once.weights));
  CHECK(again.losses == once.losses);
}

TEST_CASE("cuda: mixtures predict and route as on the CPU" * doctest::skip(!cuda_available())) {
  const char* data = "shapes:size=16,train=8,test=40";
  check_evaluation(data, with(kBlocks, {"eval.batch=16"}));
  // Decided scores but not so much that the smaller ones are 0, where devices break ties apart.
  check_evaluation(data, with(with(kBlocks, kTwo), {"moe.layers=convs layer4",
                                                    "image_moe.router=random", "eval.batch=7"}));
}

TEST_CASE("cuda: a checkpoint with mixtures goes on on the other device" *
          doctest::skip(!cuda_available())) {
  check_checkpoints(with(kBlocks, {"image_moe.balance=switch"}));
}
