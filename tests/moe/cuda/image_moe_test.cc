#include "moe/cnn/image_moe.h"

#include <memory>
#include <numeric>
#include <string>

#include "moe/cnn/picture_patches.h"
#include "nn/resnet.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using moe::GateWeight;
using moe::ImageMoe;
using moe::ImageMoeConfig;
using moe::ImageRouterKind;

namespace {

constexpr int64_t kImages = 7, kSide = 8, kChannels = 6, kOut = 4;

// What the experts of a layer are, and the pass that it makes.
struct Setup {
  ImageMoeConfig config;
  bool blocks = false;
  int64_t stride = 1;
  nn::Mode mode = nn::Mode::kTrain;
  moe::LayerOrder order = {.layer = 1};  // of another layer: none
};

struct Pass {
  std::vector<double> y, dx, clean, gates, weight;
  std::vector<int32_t> chosen, expert, offset, slot_of;
  std::vector<std::string> paths;
  std::vector<std::vector<double>> values, gradients;  // afterwards, of every parameter
};

std::vector<std::unique_ptr<nn::Layer>> experts_of(const Setup& s) {
  std::vector<std::unique_ptr<nn::Layer>> experts;
  for (int64_t e = 0; e < s.config.experts; ++e) {
    if (s.blocks) {
      const nn::BlockSpec spec{kChannels, kOut, kOut, s.stride, false};
      experts.push_back(std::make_unique<nn::ResidualBlock>("block", spec, nn::LayerMaker()));
    } else {
      experts.push_back(
          std::make_unique<nn::Conv2d>(nn::kaiming_conv(kChannels, kOut, 3, s.stride, 1)));
    }
  }
  return experts;
}

// Each with means of its own, by which routers tell them apart.
std::vector<double> pictures() {
  auto x = test_values<double>(7, kImages * kSide * kSide * kChannels, 2);
  const auto means = test_values<double>(8, kImages * kChannels, 4);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] += means[i / (kSide * kSide * kChannels) * kChannels + i % kChannels];
  }
  return x;
}

// Forward and backward in f64.
Pass run_on(Device device, const Setup& s) {
  ImageMoe layer(0, "here", {kChannels, kOut, s.stride, s.blocks}, s.config, experts_of(s));
  ParamStore store;
  nn::Binder(store, /*seed=*/3, /*with_grads=*/true).bind(layer, Dtype::kF64, device);
  const Shape shape{kImages, kSide, kSide, kChannels};
  const Buffer x = upload(pictures(), shape, device);
  const Buffer dx = upload(std::vector<double>(static_cast<size_t>(shape.numel())), shape, device);
  std::vector<int64_t> ids(kImages);
  std::iota(ids.begin(), ids.end(), 100);
  moe::RoutingOrders orders;
  orders.layers = {s.order};
  moe::ModelOutput out;
  out.routings.resize(1);
  out.parts.resize(1);
  StepArena arena(device), host_arena;
  Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = s.mode,
                .seed = 11,
                .sample_ids = ids,
                .reports = &out,
                .orders = &orders};
  const Tensor y = layer.forward(f, tape.leaf(x.tensor(), dx.tensor()));
  const Buffer seed = upload(test_values<double>(6, y.numel()), y.shape(), device);
  const moe::Routing r = moe::on_host(out.routings[0], host_arena);
  CHECK(r.dropped == 0);
  Pass pass;
  pass.y = download<double>(y);
  pass.clean = download<double>(r.clean);
  pass.gates = download<double>(r.gates);
  pass.weight = download<double>(r.weight);
  pass.chosen = download<int32_t>(r.chosen);
  pass.expert = download<int32_t>(r.expert);
  pass.offset = download<int32_t>(r.offset);
  pass.slot_of = download<int32_t>(r.slot_of);
  tape.backward(y, seed.tensor());
  pass.dx = download<double>(dx.tensor());
  for (const ParamStore::Entry& entry : store.entries()) {
    pass.paths.push_back(entry.path);
    pass.values.push_back(download<double>(store.view(entry, Slab::kValue)));
    pass.gradients.push_back(download<double>(store.view(entry, Slab::kGrad)));
  }
  return pass;
}

Pass check_layer(const Setup& setup) {
  constexpr double kBound = 1e-9;  // batch norms of few pixels amplify rounding
  const Pass want = run_on(Device::kCpu, setup), got = run_on(Device::kCuda, setup);
  CHECK(got.chosen == want.chosen);
  CHECK(got.expert == want.expert);
  CHECK(got.offset == want.offset);
  CHECK(got.slot_of == want.slot_of);
  CHECK(worst_error(got.clean, want.clean) < kBound);
  CHECK(worst_error(got.gates, want.gates) < kBound);
  CHECK(worst_error(got.weight, want.weight) < kBound);
  CHECK(worst_error(got.y, want.y) < kBound);
  CHECK(worst_error(got.dx, want.dx) < kBound);
  REQUIRE(got.paths == want.paths);
  for (size_t i = 0; i < want.paths.size(); ++i) {
    CAPTURE(want.paths[i]);
    CHECK(worst_error(got.values[i], want.values[i]) < kBound);
    CHECK(worst_error(got.gradients[i], want.gradients[i]) < kBound);
  }
  const Pass again = run_on(Device::kCuda, setup);
  CHECK(same_bits(again.y, got.y));
  CHECK(same_bits(again.dx, got.dx));
  return got;
}

}  // namespace

TEST_CASE("cuda: a mixture for images as on the CPU, with every router" *
          doctest::skip(!cuda_available())) {
  for (const ImageRouterKind kind :
       {ImageRouterKind::kGapFc, ImageRouterKind::kConvGap, ImageRouterKind::kTwoConvGap,
        ImageRouterKind::kRandom, ImageRouterKind::kFirstChannels}) {
    for (const nn::Mode mode : {nn::Mode::kTrain, nn::Mode::kEval}) {
      CAPTURE(static_cast<int>(kind));
      check_layer(
          {.config = {.experts = 3, .top_k = 2, .router = kind, .weight = GateWeight::kNormalised},
           .stride = 2,
           .mode = mode});
    }
  }
}

TEST_CASE("cuda: a mixture for images as on the CPU, with every weight" *
          doctest::skip(!cuda_available())) {
  for (const bool blocks : {false, true}) {
    for (const GateWeight form :
         {GateWeight::kNormalised, GateWeight::kPlain, GateWeight::kStraightThrough}) {
      CAPTURE(static_cast<int>(form));
      const int64_t k = form == GateWeight::kPlain ? 4 : 1;
      const Pass pass = check_layer(
          {.config = {.experts = 4, .top_k = k, .weight = form}, .blocks = blocks, .stride = 2});
      int idle = 0;
      for (size_t e = 0; e < 4; ++e) idle += pass.offset[e] == pass.offset[e + 1] ? 1 : 0;
      CHECK(idle < 3);  // or this would say little
    }
  }
}

TEST_CASE("cuda: noisy selection, capacities and orders as on the CPU" *
          doctest::skip(!cuda_available())) {
  const Pass noisy = check_layer({.config = {.experts = 3, .top_k = 1, .noisy_selection = true}});
  CHECK(noisy.gates != noisy.clean);
  const ImageMoeConfig limited{.experts = 3,
                               .top_k = 2,
                               .weight = GateWeight::kNormalised,
                               .noisy_selection = true,
                               .capacity_factor = 1.1};
  const Pass even = check_layer({.config = limited});
  for (size_t e = 0; e < 3; ++e) CHECK(even.offset[e + 1] - even.offset[e] <= 6);
  const Pass fixed = check_layer({.config = limited, .order = {.layer = 0, .expert = 2}});
  CHECK(fixed.offset == std::vector<int32_t>{0, 0, 0, 7});
}

TEST_CASE("cuda: patches that are routed one by one as on the CPU" *
          doctest::skip(!cuda_available())) {
  const Pass pass = check_layer(
      {.config = {.experts = 3, .noisy_selection = true, .grid = 2}, .blocks = false, .stride = 2});
  CHECK(pass.offset.back() == 4 * kImages);
  check_layer({.config = {.experts = 2,
                          .top_k = 2,
                          .weight = GateWeight::kPlain,
                          .capacity_factor = 1,
                          .grid = 4}});
  for (const int64_t grid : {1, 2, 3}) {
    CAPTURE(grid);
    for (const int64_t halo : {0, 1, 2}) {
      check_parity<float>(Device::kCuda, {{{2, 6, 12, 3}}},
                          [&](Tape&, auto in) { return moe::cut_patches(in[0], grid, halo); });
    }
    check_parity<float>(Device::kCuda, {{{2 * grid * grid, 4, 5, 3}}},
                        [&](Tape&, auto in) { return moe::join_patches(in[0], grid); });
  }
}
