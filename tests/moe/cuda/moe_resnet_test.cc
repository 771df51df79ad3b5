#include "moe/cnn/moe_resnet.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/devices.h"

using namespace engine;
using namespace engine::test;
using Unit = moe::ImageMoePlaces::Unit;

namespace {

constexpr int64_t kImages = 12, kSide = 16;

struct Result {
  std::vector<double> logits;
  std::vector<std::vector<int32_t>> chosen;
  std::vector<std::string> paths;
  std::vector<std::vector<double>> values, gradients;  // afterwards, of every parameter
};

template <class T>
std::vector<double> wide(const Tensor& t) {
  const auto v = download<T>(t);
  return {v.begin(), v.end()};
}

// One step: forward and backward.
template <class T>
Result run_on(Device device, Unit unit, nn::Mode mode) {
  nn::ResnetConfig config = nn::named_resnet("resnet18");
  config.first_width = 2;
  moe::MoeResnet network(
      config, {unit, "layer3"},
      {.experts = 3, .top_k = 2, .weight = moe::GateWeight::kNormalised, .noisy_selection = true});
  ParamStore store;
  nn::Binder(store, /*seed=*/1, /*with_grads=*/true).bind(network, dtype_of<T>(), device);
  const Shape shape{kImages, config.channels, kSide, kSide}, out_shape{kImages, config.classes};
  const Buffer images = upload(test_values<T>(5, shape.numel()), shape, device);
  const Buffer seed = upload(test_values<T>(6, out_shape.numel()), out_shape, device);
  const std::vector<int64_t> ids = {3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 93};
  StepArena arena(device);
  Tape tape(arena);
  nn::Forward f{.tape = tape, .mode = mode, .seed = 4, .sample_ids = ids};
  moe::ModelOutput out;
  network.forward(f, tape.input(images.tensor()), out);
  Result result{wide<T>(out.logits), {}, {}, {}, {}};
  for (const moe::Routing& r : out.routings) result.chosen.push_back(download<int32_t>(r.chosen));
  tape.backward(out.logits, seed.tensor());
  for (const ParamStore::Entry& entry : store.entries()) {
    result.paths.push_back(entry.path);
    result.values.push_back(wide<T>(store.view(entry, Slab::kValue)));
    result.gradients.push_back(wide<T>(store.view(entry, Slab::kGrad)));
  }
  return result;
}

template <class T>
void check_network(Unit unit, nn::Mode mode, double bound) {
  const Result want = run_on<T>(Device::kCpu, unit, mode);
  const Result got = run_on<T>(Device::kCuda, unit, mode);
  CHECK(got.chosen == want.chosen);
  CHECK(got.chosen.size() == (unit == Unit::kBlocks ? 2 : 5));
  CHECK(worst_error(got.logits, want.logits) < bound);
  REQUIRE(got.paths == want.paths);
  for (size_t i = 0; i < want.paths.size(); ++i) {
    CAPTURE(want.paths[i]);
    CHECK(worst_error(got.values[i], want.values[i]) < bound);
    CHECK(worst_error(got.gradients[i], want.gradients[i]) < bound);
  }
}

}  // namespace

TEST_CASE("cuda: networks with mixtures of blocks as on the CPU, and every gradient" *
          doctest::skip(!cuda_available())) {
  check_network<double>(Unit::kBlocks, nn::Mode::kTrain, 1e-9);
  check_network<double>(Unit::kBlocks, nn::Mode::kEval, 1e-9);
  check_network<float>(Unit::kBlocks, nn::Mode::kTrain, 1e-4);
  check_network<float>(Unit::kBlocks, nn::Mode::kEval, 1e-4);
}

TEST_CASE("cuda: networks with mixtures of convolutions as on the CPU, and every gradient" *
          doctest::skip(!cuda_available())) {
  check_network<double>(Unit::kConvs, nn::Mode::kTrain, 1e-9);
  check_network<float>(Unit::kConvs, nn::Mode::kTrain, 1e-4);
  check_network<float>(Unit::kConvs, nn::Mode::kEval, 1e-4);
}
