#include "nn/resnet.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/devices.h"

using namespace engine::test;
using engine::Buffer;
using engine::Device;
using engine::Dtype;
using engine::ParamStore;
using engine::Slab;
using engine::StepArena;
using engine::Tape;
using engine::Tensor;

namespace {

// Points a model's parameters at a store of a device.
class Placer final : public nn::ParamVisitor {
 public:
  Placer(ParamStore& store, Device device, nn::Resnet& model) : store_(store) {
    model.visit(*this);
    store.allocate(Dtype::kF64, device);
    store.allocate(Slab::kGrad);
    placing_ = true;
    model.visit(*this);
  }
  void parameter(const std::string& path, nn::Parameter& p, const nn::ParamSpec& spec) override {
    if (!placing_) return store_.declare(path, spec.shape, spec.kernel, spec.trainable);
    p.value = store_.view(store_.find(path), Slab::kValue);
    if (spec.trainable) p.grad = store_.view(store_.find(path), Slab::kGrad);
  }

 private:
  ParamStore& store_;
  bool placing_ = false;
};

struct Result {
  std::vector<double> logits;
  std::vector<std::string> paths;
  std::vector<std::vector<double>> values, gradients;  // afterwards, of every parameter
};

// One step of two images: forward, and in training backward.
Result run_on(Device device, const nn::ResnetConfig& config, nn::Mode mode) {
  nn::Resnet model(config);
  ParamStore start, store;
  nn::Binder(start, /*seed=*/1, /*with_grads=*/false).bind(model, Dtype::kF64);
  const Placer placer(store, device, model);
  engine::device_copy(device, store.slab(Slab::kValue).raw(), Device::kCpu,
                      start.slab(Slab::kValue).raw(), start.slab(Slab::kValue).bytes());
  const Buffer images =
      upload(test_values<double>(5, 2 * 3 * 16 * 16), {2, config.channels, 16, 16}, device);
  const Buffer seed =
      upload(test_values<double>(6, 2 * config.classes), {2, config.classes}, device);
  StepArena arena(device);
  Tape tape(arena);
  nn::Forward f{.tape = tape, .mode = mode};
  const Tensor logits = model.forward(f, tape.input(images.tensor()));
  Result result{download<double>(logits), {}, {}, {}};
  tape.backward(logits, seed.tensor());
  for (const ParamStore::Entry& entry : store.entries()) {
    result.paths.push_back(entry.path);
    result.values.push_back(download<double>(store.view(entry, Slab::kValue)));
    result.gradients.push_back(download<double>(store.view(entry, Slab::kGrad)));
  }
  return result;
}

void check_network(const nn::ResnetConfig& config, nn::Mode mode) {
  constexpr double kBound = 1e-9;  // batch norms of few pixels amplify rounding
  const Result want = run_on(Device::kCpu, config, mode);
  const Result got = run_on(Device::kCuda, config, mode);
  CHECK(worst_error(got.logits, want.logits) < kBound);
  REQUIRE(got.paths == want.paths);
  for (size_t i = 0; i < want.paths.size(); ++i) {
    CAPTURE(want.paths[i]);
    CHECK(worst_error(got.values[i], want.values[i]) < kBound);
    CHECK(worst_error(got.gradients[i], want.gradients[i]) < kBound);
  }
}

}  // namespace

TEST_CASE("cuda: residual networks as on the CPU" * doctest::skip(!cuda_available())) {
  nn::ResnetConfig small = nn::named_resnet("resnet18");
  small.first_width = 4;
  check_network(small, nn::Mode::kTrain);
  check_network(small, nn::Mode::kEval);

  nn::ResnetConfig large = small;  // 7x7 and max-pooling first, widths without 16-byte accesses
  large.small_inputs = false;
  large.first_width = 3;
  check_network(large, nn::Mode::kTrain);

  nn::ResnetConfig bottleneck = small;
  bottleneck.bottleneck = true;
  bottleneck.blocks = {1, 1, 2, 1};
  check_network(bottleneck, nn::Mode::kTrain);
}
