#include <algorithm>
#include <cmath>

#include "tests/train/cuda/device_training.h"

using engine::Device;
using engine::Dtype;
using engine::test::cuda_available;
using engine::test::same_bits;
using train::Config;
using train::test::Settings;
using train::test::Trained;
using train::test::training;
using train::test::with;

namespace {

const Settings kBf16 = {"train.batch=8", "train.precision=bf16", "optimizer.clip=1",
                        "schedule.peak=0.003", "schedule.warmup_steps=0"};

constexpr double kLoss = 0.002;

double worst_loss(const Trained& a, const Trained& b) {
  double worst = 0;
  for (size_t i = 0; i < a.losses.size(); ++i) {
    worst = std::max(worst, std::abs(a.losses[i] - b.losses[i]) / std::abs(b.losses[i]));
  }
  return worst;
}

}  // namespace

// A rounding is up to 1/256 of a number, and a loss is a mean of many.
TEST_CASE("cuda: a training whose activations are stored in bf16 is that of the CPU in bf16" *
          doctest::skip(!cuda_available())) {
  const Settings cases[] = {
      {"data.two_view=true", "prc.form=paper", "moe.expert_dropout=0.2",
       "model.stochastic_depth=0.3"},
      {"moe.chooser=soft"},
      {"model.pool=mean", "model.pre_logits=true", "moe.dispatch=capacity",
       "moe.capacity_factor=0.6", "moe.bf16_dispatch=true"},
      {"moe.layers=none"},
  };
  for (const Settings& more : cases) {
    CAPTURE(more[0]);
    const Trained want = training(Device::kCpu, with(kBf16, more), 4);
    const Trained got = training(Device::kCuda, with(kBf16, more), 4);
    CHECK(worst_loss(got, want) < kLoss);
    // Where no router can turn: one that does changes gradients by as much as bf16 on the CPU.
    if (more[0] == "moe.layers=none") {
      CHECK(train::test::largest_difference(got.moments, want.moments) < 0.1);
    }
    const Trained again = training(Device::kCuda, with(kBf16, more), 4);
    CHECK(same_bits(again.weights, got.weights));
    // Other start weights are far from that.
    const Trained other = training(Device::kCuda, with(with(kBf16, more), {"train.seed=7"}), 4);
    CHECK(train::test::largest_difference(other.moments, want.moments) > 0.5);
  }
}

TEST_CASE("cuda: in bf16 the residual stream takes half the room; routers and logits stay f32" *
          doctest::skip(!cuda_available())) {
  const auto set = data::open_dataset("shapes:size=16,train=64,test=10", data::Split::kTrain);
  int64_t bytes[2] = {};
  for (const bool narrow : {false, true}) {
    const Config config = train::test::small_config(
        *set, {narrow ? "train.precision=bf16" : "train.precision=f32", "train.batch=32"});
    train::Model model(config, true, Dtype::kF32, Device::kCuda);
    train::TrainStep step(config, model, 100);
    data::Loader loader(*set, train::training_loader(config));
    const data::Batch& batch = *loader.next();
    step.run(batch, 0);
    bytes[narrow] = step.activation_bytes();
    train::Inference inference(*model.network);
    engine::StepArena arena(Device::kCuda);
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape, .precision = model.network->precision()};
    moe::ModelOutput out;
    model.network->forward(
        f, tape.input(engine::brought_to(arena, train::pixels_of(batch, config))), out);
    CHECK(out.logits.dtype() == Dtype::kF32);
    for (const moe::Routing& r : out.routings) {
      CHECK(r.logits.dtype() == Dtype::kF32);
      CHECK(r.clean.dtype() == Dtype::kF32);
      CHECK(r.weight.dtype() == Dtype::kF32);
      CHECK(r.outputs.dtype() == (narrow ? Dtype::kBF16 : Dtype::kF32));
      // As reports read them.
      engine::StepArena host;
      CHECK(moe::on_host(r, host).outputs.dtype() == Dtype::kF32);
    }
    CHECK(model.params.slab(engine::Slab::kGrad).dtype() == Dtype::kF32);
  }
  CHECK(static_cast<double>(bytes[1]) < 0.75 * static_cast<double>(bytes[0]));
}

TEST_CASE("cuda: evaluation in bf16 as on the CPU in bf16" * doctest::skip(!cuda_available())) {
  train::test::SmallModel small("shapes:size=16,train=8,test=40",
                                {"eval.batch=16", "train.precision=bf16"});
  train::Model on_gpu(small.config, false, Dtype::kF32, Device::kCuda);
  const engine::Tensor from = small.model.params.slab(engine::Slab::kValue);
  engine::device_copy(Device::kCuda, on_gpu.params.slab(engine::Slab::kValue).raw(), Device::kCpu,
                      from.raw(), from.bytes());
  const train::Evaluation want = train::evaluate(*small.model.network, small.config, *small.test);
  const train::Evaluation got = train::evaluate(*on_gpu.network, small.config, *small.test);
  CHECK(got.n == 40);
  CHECK(std::abs(got.loss - want.loss) < 0.01 * want.loss);
}
