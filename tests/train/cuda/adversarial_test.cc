#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/devices.h"
#include "tests/train/small_run.h"
#include "train/adversarial/adversary.h"
#include "train/adversarial/free_noise_kernels.h"
#include "train/train_step.h"

using engine::Device;
using engine::Slab;
using engine::test::cuda_available;
using engine::test::download;
using engine::test::same_bits;
using engine::test::test_values;
using engine::test::upload;
using train::Config;

namespace {

using Settings = std::vector<std::string>;

// The learning rate is small, so that a pixel whose gradient is a rounding from 0 moves little.
const Settings kVit = {"train.batch=4",  "moe.group_images=2",  "model.patch=8",
                       "model.layers=1", "moe.layers=0",        "moe.experts=2",
                       "model.width=8",  "schedule.peak=0.001", "schedule.warmup_steps=0"};
const Settings kResnet = {"train.batch=4",          "model.kind=resnet18", "model.first_width=2",
                          "moe.layers=none",        "schedule.peak=0.001", "optimizer.clip=1",
                          "schedule.warmup_steps=0"};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

struct Trained {
  std::vector<double> losses, divergences;
  int64_t views = 0;
  std::vector<float> weights, noise;
};

Trained training(Device device, const Settings& settings, int steps) {
  const auto set = data::open_dataset("shapes:size=16,train=12,test=10", data::Split::kTrain);
  const Config config = train::test::small_config(*set, settings);
  train::Model model(config, true, engine::Dtype::kF32, device);
  // A fresh model's last layer is zero, and no attack sees a gradient.
  const engine::Tensor slab = model.params.slab(Slab::kValue);
  std::vector<float> weights = download<float>(slab);
  const engine::RngKey key(1, engine::Purpose::kTest);
  for (const auto& entry : model.params.entries()) {
    for (int64_t i = entry.offset; entry.trainable && i < entry.offset + entry.shape.numel(); ++i) {
      weights[static_cast<size_t>(i)] +=
          0.05f * static_cast<float>(key.normal(static_cast<uint64_t>(i)));
    }
  }
  engine::device_copy(device, slab.raw(), Device::kCpu, weights.data(), slab.bytes());
  train::TrainStep step(config, model, 100);
  data::Loader loader(*set, train::training_loader(config));
  Trained out;
  for (int i = 0; i < steps; ++i) {
    const train::StepResult& result = step.run(*loader.next(), i);
    out.losses.push_back(result.loss.total);
    out.divergences.push_back(result.loss.divergence);
    out.views += result.views;
  }
  out.weights = download<float>(model.params.slab(Slab::kValue));
  for (const train::NamedTensor& more : step.state()) out.noise = download<float>(more.tensor);
  return out;
}

// Ten steps beside the CPU's, the first of them again.
void check_training(const Settings& model, const Settings& adversarial) {
  const Settings settings = with(model, adversarial);
  const Trained want = training(Device::kCpu, settings, 10),
                got = training(Device::kCuda, settings, 10),
                again = training(Device::kCuda, settings, 3);
  for (size_t i = 0; i < want.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got.losses[i] - want.losses[i]) < 1e-3 * std::abs(want.losses[i]));
    CHECK(std::abs(got.divergences[i] - want.divergences[i]) < 1e-3);
  }
  CHECK(got.views == want.views);
  for (size_t i = 0; i < again.losses.size(); ++i) CHECK(again.losses[i] == got.losses[i]);
  // Without the attack it would be another training.
  const Trained plain = training(Device::kCuda, model, 1);
  CHECK(std::abs(plain.losses[0] - got.losses[0]) > 1e-4);
  // Noise of places whose gradient is a rounding from 0 may have gone the other way.
  REQUIRE(got.noise.size() == want.noise.size());
  int64_t other = 0;
  for (size_t i = 0; i < got.noise.size(); ++i) {
    other += std::abs(got.noise[i] - want.noise[i]) > 1e-6f ? 1 : 0;
  }
  CHECK(other <= static_cast<int64_t>(got.noise.size()) / 20);
}

}  // namespace

TEST_CASE("cuda: PGD training as on the CPU" * doctest::skip(!cuda_available())) {
  check_training(kVit, {"adversarial.kind=pgd", "adversarial.steps=2"});
}

TEST_CASE("cuda: PGD training of a residual network as on the CPU" *
          doctest::skip(!cuda_available())) {
  check_training(kResnet,
                 {"adversarial.kind=pgd", "adversarial.steps=2", "adversarial.attack_mode=train"});
}

TEST_CASE("cuda: training with the fast step as on the CPU" * doctest::skip(!cuda_available())) {
  check_training(kVit, {"adversarial.kind=fast", "adversarial.drop_start=true",
                        "train.micro_batch=2", "adversarial.step=10/255"});
  check_training(kResnet, {"adversarial.kind=fast", "adversarial.step=10/255"});
}

TEST_CASE("cuda: TRADES as on the CPU" * doctest::skip(!cuda_available())) {
  check_training(kVit, {"adversarial.kind=trades", "adversarial.steps=2"});
}

TEST_CASE("cuda: TRADES of a residual network as on the CPU" * doctest::skip(!cuda_available())) {
  check_training(kResnet, {"adversarial.kind=trades", "adversarial.steps=2"});
}

TEST_CASE("cuda: free adversarial training as on the CPU" * doctest::skip(!cuda_available())) {
  const Settings free = {"adversarial.kind=free", "adversarial.eps=4/255", "adversarial.step=3/255",
                         "adversarial.replays=2"};
  check_training(kVit, free);
  check_training(kResnet, free);
}

TEST_CASE("cuda: adversarial training repeats its bits" * doctest::skip(!cuda_available())) {
  for (const char* kind : {"adversarial.kind=fast", "adversarial.kind=free"}) {
    const Trained once = training(Device::kCuda, with(kVit, {kind}), 3),
                  again = training(Device::kCuda, with(kVit, {kind}), 3);
    CHECK(once.losses == again.losses);
    CHECK(same_bits(once.weights, again.weights));
    CHECK(same_bits(once.noise, again.noise));
  }
}

TEST_CASE("cuda: adversarial images are those of the CPU, from the same starts" *
          doctest::skip(!cuda_available())) {
  for (const char* name : {"pgd", "trades"}) {
    const auto set = data::open_dataset("shapes:size=16,train=12,test=10", data::Split::kTrain);
    // A step of next to nothing: what is left is the start.
    for (const bool moves : {false, true}) {
      const Config config = train::test::small_config(
          *set, with(kVit, {std::string("adversarial.kind=") + name, "adversarial.steps=1",
                            moves ? "adversarial.step=2/255" : "adversarial.step=1e-12"}));
      std::vector<std::vector<float>> images;
      std::vector<float> pixels = test_values<float>(3, 3 * 768);
      const std::vector<int32_t> labels = {1, 5, 9};
      const std::vector<int64_t> ids = {0, 1, 2};
      for (const Device device : {Device::kCpu, Device::kCuda}) {
        const train::Model model(config, false, engine::Dtype::kF32, device);
        train::Adversary adversary(config, *model.network);
        const engine::Tensor batch(pixels.data(), {3, 3, 16, 16}, engine::Dtype::kF32,
                                   Device::kCpu);
        images.push_back(download<float>(adversary.perturb(batch, labels, 4, ids)));
      }
      CAPTURE(name);
      CAPTURE(moves);
      int64_t other = 0;
      double farthest = 0;
      for (size_t i = 0; i < images[0].size(); ++i) {
        const double d = std::abs(double{images[0][i]} - double{images[1][i]});
        other += d > 1e-6 ? 1 : 0;
        farthest = std::max(farthest, d);
      }
      CHECK(other <= (moves ? 23 : 0));  // a hundredth
      CHECK(farthest < 0.04);
      CHECK_FALSE(same_bits(images[0], pixels));
    }
  }
}

TEST_CASE("cuda: steps of free noise are the CPU's bits" * doctest::skip(!cuda_available())) {
  const int64_t n = 3 * 2 * 25;
  const auto after = [&](Device device) {
    const auto sum = upload(test_values<float>(1, n, 1.5), device),
               noise = upload(test_values<float>(3, n, 0.02), device);
    std::vector<float> slopes = test_values<float>(2, n);
    slopes[7] = 0;
    const auto gradient = upload(slopes, device);
    engine::test::on_device(device, [&](auto on) {
      train::kernels::move_noise(on, sum.data<const float>(), gradient.data<const float>(), 0.01f,
                                 0.02f, noise.data<float>(), n);
    });
    return download<float>(noise);
  };
  const std::vector<float> got = after(Device::kCuda);
  CHECK(same_bits(got, after(Device::kCpu)));
  CHECK(got != test_values<float>(3, n, 0.02));
}

TEST_CASE("cuda: a free run goes on with its noise, there and on the CPU" *
          doctest::skip(!cuda_available())) {
  using train::test::file_of_step;
  using train::test::run;
  const train::test::TempFolder folder;
  const std::string straight = folder / "straight", stopped = folder / "stopped";
  const Settings f = {"train.steps=4",         "checkpoint.every=2",     "train.micro_batch=0",
                      "train.batch=4",         "model.patch=8",          "train.device=cuda",
                      "train.ema=0",           "moe.group_images=2",     "adversarial.kind=free",
                      "adversarial.replays=2", "schedule.warmup_steps=1"};
  const train::test::Options small = {.data = "shapes:size=16,train=12,test=4"};
  CHECK(run(straight, f, small) == train::Outcome::kDone);
  std::filesystem::copy(straight, stopped, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(stopped + "/checkpoints/step-000000004");
  train::test::Options on = small;
  on.resume = true;
  CHECK(run(stopped, f, on) == train::Outcome::kDone);
  for (const char* name : {"model.safetensors", "state.safetensors"}) {
    CHECK(train::test::tensors(file_of_step(stopped, 4, name)) ==
          train::test::tensors(file_of_step(straight, 4, name)));
  }
  std::filesystem::remove_all(stopped + "/checkpoints/step-000000004");
  CHECK(run(stopped, with(f, {"train.device=cpu"}), on) == train::Outcome::kDone);
}
