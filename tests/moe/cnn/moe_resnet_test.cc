#include "moe/cnn/moe_resnet.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Slab;
using moe::ImageMoeConfig;
using moe::ImageMoePlaces;
using moe::MoeResnet;
using Unit = ImageMoePlaces::Unit;

namespace {

nn::ResnetConfig narrow(const std::string& name = "resnet18") {
  nn::ResnetConfig c = nn::named_resnet(name);
  c.first_width = 4;
  return c;
}

std::vector<std::string> paths(const std::string& network, Unit unit, const std::string& path,
                               int64_t experts = 4) {
  return MoeResnet(narrow(network), {unit, path}, {.experts = experts}).moe_paths();
}

}  // namespace

TEST_CASE("moe resnet: which layers become mixtures") {
  using Paths = std::vector<std::string>;
  CHECK(paths("resnet18", Unit::kNone, "layer4").empty());
  CHECK(paths("resnet18", Unit::kBlocks, "layer4") == Paths{"layer4.0", "layer4.1"});
  CHECK(paths("resnet50", Unit::kBlocks, "layer4") == Paths{"layer4.0", "layer4.1", "layer4.2"});
  CHECK(paths("resnet50", Unit::kBlocks, "layer4.1") == Paths{"layer4.1"});
  CHECK(paths("resnet18", Unit::kConvs, "layer4") == Paths{"layer4.0.conv1", "layer4.0.conv2",
                                                           "layer4.0.downsample.0",
                                                           "layer4.1.conv1", "layer4.1.conv2"});
  CHECK(paths("resnet50", Unit::kConvs, "layer4").size() == 10);
  CHECK(paths("wide-resnet50-2", Unit::kConvs, "layer4").size() == 10);
  CHECK(paths("resnet18", Unit::kConvs, "layer4.1.conv1") == Paths{"layer4.1.conv1"});
  // One expert is no replacement.
  CHECK(paths("resnet18", Unit::kBlocks, "layer4", 1).empty());
  const auto error = caught([] { paths("resnet18", Unit::kBlocks, "layer5"); });
  CHECK(error.is(ErrorKind::kValue, {"no block", "\"layer5\"", "layer1.0", "layer4.1"}));
  CHECK(caught([] {
          paths("resnet18", Unit::kConvs, "bn1", 1);
        }).is(ErrorKind::kValue, {"no convolution", "layer1.0.conv1", "downsample.0"}));
  CHECK(caught([] {
          MoeResnet(narrow(), {Unit::kBlocks, "layer1"},
                    {.experts = 5, .router = moe::ImageRouterKind::kFirstChannels});
        }).is(ErrorKind::kValue, {"layer1.0", "4 channels"}));
}

TEST_CASE("moe resnet: names, start and cost of experts") {
  MoeResnet network(narrow(), {Unit::kBlocks, "layer4"}, {.experts = 3});
  engine::ParamStore store;
  nn::Binder(store, 1, false).bind(network, engine::Dtype::kF64);
  std::set<std::string> names;
  for (const auto& entry : store.entries()) names.insert(entry.path);
  for (const char* name :
       {"layer3.1.conv1.weight", "layer4.0.router.weight", "layer4.0.router.bias",
        "layer4.0.experts.2.downsample.0.weight", "layer4.1.experts.0.bn1.running_var"}) {
    CHECK(names.contains(name));
  }
  CHECK(!names.contains("layer4.0.conv1.weight"));
  const auto deviation = [&](const std::string& path) {
    double sum = 0;
    const auto v = f64_of(store.view(store.find(path), Slab::kValue));
    for (const double x : v) sum += x * x;
    return std::sqrt(sum / static_cast<double>(v.size()));
  };
  // 16 to 32 channels of 3 x 3: fan-in 144 in the experts, fan-out 288 elsewhere (8 to 16: 144).
  CHECK(deviation("layer4.0.experts.1.conv1.weight") ==
        doctest::Approx(std::sqrt(2.0 / 144)).epsilon(0.03));
  CHECK(deviation("layer3.0.conv1.weight") == doctest::Approx(std::sqrt(2.0 / 144)).epsilon(0.05));
  CHECK(deviation("layer4.0.experts.1.downsample.0.weight") ==
        doctest::Approx(std::sqrt(2.0 / 16)).epsilon(0.1));
  CHECK(f64_of(store.view(store.find("layer4.0.experts.0.conv1.weight"), Slab::kValue)) !=
        f64_of(store.view(store.find("layer4.0.experts.1.conv1.weight"), Slab::kValue)));
  // The experts of 2 blocks beside the plain network; one of them is gone through.
  const nn::Cost plain = nn::Resnet(narrow()).cost({32, 32}), mixed = network.cost({32, 32});
  CHECK(mixed.active == plain.active);
  CHECK(plain.all == plain.active);
  CHECK(plain.routers == 0);
  const int64_t fourth = 4 * 4 * (9 * (16 * 32 + 3 * 32 * 32) + 16 * 32);
  CHECK(mixed.all == plain.all + 2 * fourth);
  CHECK(mixed.routers == 3 * (16 + 32));
}

TEST_CASE("moe resnet: gradients of every parameter of both kinds") {
  for (const Unit unit : {Unit::kBlocks, Unit::kConvs}) {
    const ImageMoeConfig config{.experts = 3, .top_k = 2, .weight = moe::GateWeight::kNormalised};
    MoeResnet network(narrow(), {unit, "layer4"}, config);
    engine::ParamStore store;
    nn::Binder(store, 3, true).bind(network, engine::Dtype::kF64);
    const auto x = values<double>(2 * 3 * 8 * 8, 9);
    moe::ModelOutput out;
    const auto value = [&](bool backward) {
      engine::StepArena arena;
      engine::Tape tape(arena);
      nn::Forward f{.tape = tape, .param_grads = backward};
      network.forward(f, tape.input(view(x, {2, 3, 8, 8})), out);
      CHECK(f.reports == nullptr);
      const auto v = values<double>(out.logits.numel(), 5);
      double dot = 0;
      for (size_t i = 0; i < v.size(); ++i) dot += v[i] * out.logits.data<const double>()[i];
      if (backward) tape.backward(out.logits, view(v, out.logits.shape()));
      return dot;
    };
    store.zero(Slab::kGrad);
    value(true);
    CHECK(out.routings.size() == network.moe_paths().size());
    CHECK(out.routings.back().layer + 1 == static_cast<int64_t>(out.routings.size()));
    uint64_t seed = 40;
    for (const auto& entry : store.entries()) {
      if (!entry.trainable) continue;
      CAPTURE(entry.path);
      const auto before = f64_of(store.view(entry, Slab::kValue));
      const auto g = f64_of(store.view(entry, Slab::kGrad));
      const auto along = values<double>(entry.shape.numel(), ++seed);
      const auto at = [&](double t) {
        naive::Vec moved = before;
        for (size_t i = 0; i < moved.size(); ++i) moved[i] += t * along[i];
        set_param(store, entry.path, moved);
        return value(false);
      };
      const double numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
      set_param(store, entry.path, before);
      double analytic = 0;
      for (size_t i = 0; i < g.size(); ++i) analytic += g[i] * along[i];
      CHECK(analytic == doctest::Approx(numeric).epsilon(1e-4).scale(1));
    }
  }
}
