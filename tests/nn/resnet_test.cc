#include "nn/resnet.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/heap_counter.h"
#include "tests/support/model_fixture.h"
#include "tests/support/sanitized.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Slab;
using engine::StepArena;
using engine::Tape;
using engine::Tensor;

namespace {

nn::ResnetConfig small(const std::string& name = "resnet18", int64_t classes = 10) {
  nn::ResnetConfig c = nn::named_resnet(name);
  c.classes = classes;
  return c;
}

// The logits of `count` images of size x size, from `first` on of always the same ones.
template <class T>
std::vector<T> logits_of(const Bound<nn::Resnet>& bound, int64_t first, int64_t count, int64_t size,
                         nn::Mode mode, bool replay = false) {
  const int64_t pixels = 3 * size * size;
  const auto all = values<T>((first + count) * pixels, 5);
  const std::vector<T> images(all.begin() + first * pixels, all.end());
  StepArena arena;
  Tape tape(arena);
  nn::Forward f{.tape = tape, .mode = mode, .param_grads = false, .replay = replay};
  return copy_of<T>(bound.model.forward(f, tape.input(view(images, {count, 3, size, size}))));
}

// Running statistics that differ from their start.
void move_statistics(engine::ParamStore& store) {
  uint64_t seed = 100;
  for (const auto& entry : store.entries()) {
    if (entry.trainable) continue;
    auto v = values<double>(entry.shape.numel(), ++seed, 0.3);
    for (double& x : v) x += entry.path.ends_with("var") ? 1 : 0;
    set_param(store, entry.path, v);
  }
}

}  // namespace

TEST_CASE("resnet: costs of the published sizes") {
  // Multiply-adds as one counts them by hand: 0.5554 G (rsm, advmoe 8), 1.814 G and 4.089 G of
  // torchvision's model pages.
  const auto giga = [](const std::string& name, bool small_inputs, int64_t classes, int64_t size) {
    nn::ResnetConfig c = small(name, classes);
    c.small_inputs = small_inputs;
    const nn::Cost cost = nn::Resnet(c).cost({size, size});
    CHECK(cost.all == cost.active);
    CHECK(cost.routers == 0);
    return static_cast<double>(cost.active) / 1e9;
  };
  CHECK(giga("resnet18", true, 10, 32) == doctest::Approx(0.5554).epsilon(1e-4));
  CHECK(giga("resnet18", false, 1000, 224) == doctest::Approx(1.814).epsilon(1e-3));
  CHECK(giga("resnet34", false, 1000, 224) == doctest::Approx(3.664).epsilon(1e-3));
  CHECK(giga("resnet50", false, 1000, 224) == doctest::Approx(4.089).epsilon(1e-3));
  CHECK(giga("wide-resnet50-2", false, 1000, 224) == doctest::Approx(11.398).epsilon(1e-3));
}

TEST_CASE("resnet: as many parameters as torchvision's, under its names") {
  const auto count = [](const std::string& name) {
    nn::ResnetConfig c = small(name, 1000);
    c.small_inputs = false;
    nn::Resnet model(c);
    const Declared declared(model);
    int64_t n = 0;
    for (const auto& e : declared.store.entries()) n += e.trainable ? e.shape.numel() : 0;
    return n;
  };
  CHECK(count("resnet18") == 11'689'512);
  CHECK(count("resnet34") == 21'797'672);
  CHECK(count("resnet50") == 25'557'032);
  CHECK(count("wide-resnet50-2") == 68'883'240);

  nn::Resnet model(small());
  const Declared declared(model);
  std::set<std::string> names, weights;
  for (const auto& e : declared.store.entries()) {
    names.insert(e.path);
    if (e.decay) weights.insert(e.path);
    CHECK(e.trainable == (e.path.find("running_") == std::string::npos));
  }
  CHECK(names.size() == 20 + 20 * 4 + 2);  // 20 convolutions, 20 norms of four tensors, fc of two
  for (const char* name :
       {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.running_mean", "layer4.1.bn2.bias", "fc.weight", "fc.bias"}) {
    CAPTURE(std::string(name));
    CHECK(names.count(name) == 1);
  }
  CHECK(names.count("layer1.0.downsample.0.weight") == 0);
  CHECK(weights.size() == 21);  // convolutions and fc
}

TEST_CASE("resnet: weights start as torchvision's") {
  Bound<nn::Resnet> bound(small(), engine::Dtype::kF64);
  const auto deviation = [&](const std::string& path) {
    const auto v = f64_of(bound.store.view(bound.store.find(path), Slab::kValue));
    double sum = 0, squares = 0, largest = 0;
    for (const double x : v) {
      sum += x;
      squares += x * x;
      largest = std::max(largest, std::abs(x));
    }
    const auto n = static_cast<double>(v.size());
    return std::pair(std::sqrt(squares / n - sum / n * sum / n), largest);
  };
  // Kaiming normal of fan-out: sqrt(2 / (512 * 9)); not cut off at two deviations.
  const auto [conv, conv_largest] = deviation("layer4.1.conv2.weight");
  CHECK(conv == doctest::Approx(std::sqrt(2.0 / 4608)).epsilon(0.01));
  CHECK(conv_largest > 4 * conv);
  // U(+-1/sqrt(27)) and U(+-1/sqrt(512)).
  const auto [stem, stem_largest] = deviation("conv1.weight");
  CHECK(stem_largest <= 1 / std::sqrt(27.0));
  CHECK(stem == doctest::Approx(1 / std::sqrt(27.0 * 3)).epsilon(0.05));
  const auto [fc, fc_largest] = deviation("fc.weight");
  CHECK(fc_largest <= 1 / std::sqrt(512.0));
  CHECK(fc == doctest::Approx(1 / std::sqrt(512.0 * 3)).epsilon(0.03));
  CHECK(deviation("fc.bias").second > 0);
  nn::ResnetConfig large = small();
  large.small_inputs = false;
  Bound<nn::Resnet> other(large, engine::Dtype::kF64);
  const auto v = f64_of(other.store.view(other.store.find("conv1.weight"), Slab::kValue));
  CHECK(v.size() == 7 * 7 * 3 * 64);
  double squares = 0;
  for (const double x : v) squares += x * x / static_cast<double>(v.size());
  CHECK(std::sqrt(squares) == doctest::Approx(std::sqrt(2.0 / (64 * 49))).epsilon(0.03));
}

TEST_CASE("resnet: in evaluation a prediction does not depend on its batch or threads") {
  for (const char* name : {"resnet18", "resnet50"}) {
    Bound<nn::Resnet> bound(small(name), engine::Dtype::kF32);
    move_statistics(bound.store);
    const auto all = logits_of<float>(bound, 0, 7, 12, nn::Mode::kEval);
    for (int64_t i = 0; i < 7; i += 3) {
      const auto one = logits_of<float>(bound, i, 1, 12, nn::Mode::kEval);
      CHECK(same_bytes(one, {all.begin() + i * 10, all.begin() + (i + 1) * 10}));
    }
    CHECK(
        same_bits_for_threads([&] { return logits_of<float>(bound, 0, 2, 12, nn::Mode::kEval); }));
  }
}

TEST_CASE("resnet: running statistics move in training, not in evaluation, nor when replayed") {
  Bound<nn::Resnet> bound(small(), engine::Dtype::kF32);
  const auto before = params_of(bound.store);
  logits_of<float>(bound, 0, 3, 8, nn::Mode::kEval);
  CHECK(params_of(bound.store) == before);
  const auto replayed = logits_of<float>(bound, 0, 3, 8, nn::Mode::kTrain, true);
  CHECK(params_of(bound.store) == before);
  const auto trained = logits_of<float>(bound, 0, 3, 8, nn::Mode::kTrain);
  CHECK(same_bytes(replayed, trained));
  for (const auto& after : params_of(bound.store)) {
    CAPTURE(after.first);
    CHECK((after.second != before.at(after.first)) ==
          (after.first.find("running_") != std::string::npos));
  }
}

TEST_CASE("resnet: a warm training step makes no heap allocation" *
          doctest::skip(!HeapCounter::available())) {
  Bound<nn::Resnet> bound(small("resnet18"), engine::Dtype::kF32);
  const auto images = values<float>(2 * 3 * 16 * 16, 1), dy = values<float>(2 * 10, 2);
  StepArena arena;
  Tape tape(arena);
  const auto step = [&] {
    const HeapCounter heap;
    tape.clear();
    arena.reset();
    nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain};
    const Tensor y = bound.model.forward(f, tape.input(view(images, {2, 3, 16, 16})));
    tape.backward(y, view(dy, {2, 10}));
    return heap.count();
  };
  for (int i = 0; i < 3; ++i) step();
  CHECK(step() == 0);
}

TEST_CASE("resnet: learns a few images by heart" * doctest::skip(kSanitized)) {
  // Eight images of noise, each another class.
  Bound<nn::Resnet> bound(small("resnet18", 8), engine::Dtype::kF32);
  const auto images = values<float>(8 * 3 * 8 * 8, 1);
  std::vector<int32_t> labels = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<float> one = {1};
  PlainAdam adam{.rate = 1e-3};
  double first = 0, last = 0;
  StepArena arena;
  Tape tape(arena);
  for (int i = 0; i < 15; ++i) {
    tape.clear();
    arena.reset();
    nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain};
    const Tensor y = bound.model.forward(f, tape.input(view(images, {8, 3, 8, 8})));
    const Tensor loss =
        engine::cross_entropy(y, view(labels, {8}), engine::CrossEntropy::kSoftmax, 8);
    (i == 0 ? first : last) = scalar(loss);
    bound.store.zero(Slab::kGrad);
    tape.backward(loss, view(one, {1}));
    adam.step<float>(bound.store);
  }
  CHECK(first > 1.5);
  CHECK(last < 0.05);
}

TEST_CASE("resnet: rejects what it cannot do") {
  CHECK(caught([] {
          nn::named_resnet("resnet19");
        }).is(ErrorKind::kValue, {"resnet19", "resnet18", "wide-resnet50-2"}));
  nn::ResnetConfig c = small();
  c.blocks = {2, 2, 2};
  CHECK(caught([&] { nn::Resnet model(c); }).is(ErrorKind::kValue, {"4 stages", "3"}));
  c = small();
  c.width_per_group = 128;
  CHECK(caught([&] { nn::Resnet model(c); }).is(ErrorKind::kValue, {"128"}));
  c = small();
  c.blocks[1] = 0;
  CHECK(caught([&] { nn::Resnet model(c); }).is(ErrorKind::kValue));
  c = small();
  c.classes = 0;
  CHECK(caught([&] { nn::Resnet model(c); }).is(ErrorKind::kValue, {"classes"}));
  Bound<nn::Resnet> bound(small(), engine::Dtype::kF32);
  std::vector<float> gray(64);
  StepArena arena;
  Tape tape(arena);
  nn::Forward f{.tape = tape};
  CHECK(caught([&] {
          bound.model.forward(f, tape.input(view(gray, {1, 1, 8, 8})));
        }).is(ErrorKind::kShape, {"(B, 3, H, W)", "(1,1,8,8)"}));
}
