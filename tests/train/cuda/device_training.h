#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/devices.h"
#include "tests/train/small_run.h"
#include "train/evaluate.h"
#include "train/train_step.h"

// A few steps of training on each device.
namespace train::test {

using engine::Device;
using engine::Slab;
using engine::test::download;

inline Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

// What so many steps of training leave behind.
struct Trained {
  std::vector<double> losses, norms;
  std::vector<std::vector<int64_t>> tokens;  // of each layer, of the last step
  int64_t dropped = 0, correct = 0;
  std::vector<float> weights, moments;
};

inline Trained training(Device device, const Settings& settings, int steps) {
  const auto set = data::open_dataset("shapes:size=16,train=64,test=10", data::Split::kTrain);
  const Config config = small_config(*set, settings);
  Model model(config, true, engine::Dtype::kF32, device);
  TrainStep step(config, model, 100);
  data::Loader loader(*set, training_loader(config));
  Trained out;
  for (int i = 0; i < steps; ++i) {
    const StepResult& result = step.run(*loader.next(), i);
    out.losses.push_back(result.loss.total);
    out.norms.push_back(result.gradient_norm);
    out.correct += result.correct;
    out.tokens.clear();
    for (const LayerLoad& layer : result.layers) {
      out.tokens.push_back(layer.tokens);
      out.dropped += layer.dropped;
    }
  }
  out.weights = download<float>(model.params.slab(Slab::kValue));
  out.moments = download<float>(model.params.slab(Slab::kMoment1));
  return out;
}

// Relative to the largest of b; infinite on NaN or unequal sizes.
inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  return engine::test::worst_error(a, std::vector<double>(b.begin(), b.end()));
}

// The same training on both devices. Steps few enough that no tie of a router is decided by
// rounding. bound: of norms and moments. Where there are ReLUs, an input that rounding moves past 0
// changes them by some percent, as weights that are 1e-7 larger do on the CPU.
inline void check_training(const Settings& settings, double bound = 1e-3) {
  const Trained want = training(Device::kCpu, settings, 3),
                got = training(Device::kCuda, settings, 3);
  for (size_t i = 0; i < want.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got.losses[i] - want.losses[i]) < 1e-4 * std::abs(want.losses[i]));
    CHECK(std::abs(got.norms[i] - want.norms[i]) < bound * want.norms[i]);
  }
  CHECK(got.tokens == want.tokens);
  CHECK(got.dropped == want.dropped);
  CHECK(got.correct == want.correct);
  CHECK(largest_difference(got.moments, want.moments) < bound);
}

// The same predictions and the same routing of a batch.
inline void check_evaluation(const char* data, const Settings& settings) {
  SmallModel small(data, settings);
  Model on_gpu(small.config, false, engine::Dtype::kF32, Device::kCuda);
  const engine::Tensor from = small.model.params.slab(Slab::kValue);
  engine::device_copy(Device::kCuda, on_gpu.params.slab(Slab::kValue).raw(), Device::kCpu,
                      from.raw(), from.bytes());
  const Evaluation want = evaluate(*small.model.network, small.config, *small.test);
  const Evaluation got = evaluate(*on_gpu.network, small.config, *small.test);
  CHECK(got.n == want.n);
  CHECK(got.accuracy == want.accuracy);
  CHECK(std::abs(got.loss - want.loss) < 1e-4 * want.loss);

  data::Loader loader = data::Loader::evaluation(*small.test, evaluation_loader(small.config));
  const data::Batch& batch = *loader.next();
  Inference here(*small.model.network), there(*on_gpu.network);
  const moe::ModelOutput& a = here.run(pixels_of(batch, small.config));
  const moe::ModelOutput& b = there.run(pixels_of(batch, small.config));
  CHECK(largest_difference(download<float>(b.logits), download<float>(a.logits)) < 1e-4);
  REQUIRE(a.routings.size() == b.routings.size());
  for (size_t l = 0; l < a.routings.size(); ++l) {
    CAPTURE(l);
    CHECK(download<int32_t>(b.routings[l].chosen) == download<int32_t>(a.routings[l].chosen));
    CHECK(download<int32_t>(b.routings[l].offset) == download<int32_t>(a.routings[l].offset));
    CHECK(b.routings[l].dropped == a.routings[l].dropped);
    CHECK(largest_difference(download<float>(b.routings[l].clean),
                             download<float>(a.routings[l].clean)) < 1e-4);
  }
}

// A run that changes the device half-way ends where one on the CPU ends.
inline void check_checkpoints(const Settings& settings) {
  const TempFolder folder;
  const std::string cpu = folder / "cpu", gpu = folder / "gpu", both = folder / "both";
  const Settings f = with({"train.steps=6", "checkpoint.every=3"}, settings);
  CHECK(run(cpu, f) == Outcome::kDone);
  CHECK(run(gpu, with(f, {"train.device=cuda"})) == Outcome::kDone);
  for (const bool gpu_first : {true, false}) {
    std::filesystem::remove_all(both);
    const auto device = [](bool on_gpu) {
      return Settings{on_gpu ? "train.device=cuda" : "train.device=cpu"};
    };
    // Three steps here, three there.
    CHECK(run(both, with(f, device(gpu_first)), {.stop = false}) == Outcome::kDone);
    std::filesystem::remove_all(both + "/checkpoints/step-000000006");
    CHECK(run(both, with(f, device(!gpu_first)), {.resume = true}) == Outcome::kDone);
    const std::string mixed = tensors(file_of_step(both, 6, "model.safetensors"));
    const std::string straight = tensors(file_of_step(cpu, 6, "model.safetensors"));
    REQUIRE(mixed.size() == straight.size());
    std::vector<float> a(mixed.size() / 4), b(a.size());
    std::memcpy(a.data(), mixed.data(), mixed.size());
    std::memcpy(b.data(), straight.data(), straight.size());
    CHECK(largest_difference(a, b) < 1e-3);
    CHECK(a != b);  // the GPU did take part
  }
}

}  // namespace train::test
