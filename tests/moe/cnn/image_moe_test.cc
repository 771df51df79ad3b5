#include "moe/cnn/image_moe.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/ops/pointwise.h"
#include "nn/resnet.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/heap_counter.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::Slab;
using engine::StepArena;
using engine::Tape;
using engine::Tensor;
using moe::GateWeight;
using moe::ImageMoe;
using moe::ImageMoeConfig;
using moe::ImageRouterKind;

namespace {

constexpr int64_t kChannels = 6, kSide = 5;
constexpr int64_t kPicture = kSide * kSide * kChannels;

// A layer whose experts are convolutions or blocks, with random weights.
struct Fixture {
  explicit Fixture(const ImageMoeConfig& config, bool blocks = false, int64_t stride = 1,
                   engine::Dtype dtype = engine::Dtype::kF64) {
    std::vector<std::unique_ptr<nn::Layer>> experts;
    for (int64_t e = 0; e < config.experts; ++e) {
      if (blocks) {
        experts.push_back(std::make_unique<nn::ResidualBlock>(
            "block", nn::BlockSpec{kChannels, 4, 4, stride, false}, nn::LayerMaker()));
      } else {
        experts.push_back(
            std::make_unique<nn::Conv2d>(nn::kaiming_conv(kChannels, 4, 3, stride, 1)));
      }
    }
    layer = std::make_unique<ImageMoe>(0, "here", ImageMoe::Sizes{kChannels, 4, stride, blocks},
                                       config, std::move(experts));
    pass.routings.resize(1);
    pass.parts.resize(1);
    nn::Binder(store, 1, true).bind(*layer, dtype);
    uint64_t seed = 3;
    for (const auto& entry : store.entries()) {
      naive::Vec v = values<double>(entry.shape.numel(), seed++);
      for (double& x : v) x = entry.path.ends_with("var") ? 1 + x / 2 : x;
      set_param(store, entry.path, v);
    }
  }
  Tensor run(Tape& tape, const Tensor& x, nn::Mode mode = nn::Mode::kEval,
             bool param_grads = false) {
    ids.resize(static_cast<size_t>(x.shape()[0]));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
    nn::Forward f{.tape = tape,
                  .mode = mode,
                  .param_grads = param_grads,
                  .sample_ids = ids,
                  .reports = &pass,
                  .orders = &orders};
    return layer->forward(f, x);
  }
  template <class T = double>
  std::vector<T> output(const std::vector<T>& x, nn::Mode mode = nn::Mode::kEval) {
    StepArena arena;
    Tape tape(arena);
    const auto images = static_cast<int64_t>(x.size()) / kPicture;
    const Tensor y = run(tape, tape.input(view(x, {images, kSide, kSide, kChannels})), mode);
    chosen = copy_of<int32_t>(pass.routings[0].chosen);
    weight = f64_of(pass.routings[0].weight);
    return copy_of<T>(y);
  }

  engine::ParamStore store;
  std::unique_ptr<ImageMoe> layer;
  moe::ModelOutput pass;
  moe::RoutingOrders orders;
  std::vector<int64_t> ids;
  std::vector<int32_t> chosen;
  naive::Vec weight;
};

std::vector<double> pictures(int64_t images) { return values<double>(images * kPicture, 77, 2); }

}  // namespace

TEST_CASE("image moe: the mixture of what each expert makes alone") {
  for (const bool blocks : {false, true}) {
    for (const int64_t k : {1, 2, 4}) {
      for (const GateWeight form :
           {GateWeight::kNormalised, GateWeight::kPlain, GateWeight::kStraightThrough}) {
        if (form == GateWeight::kStraightThrough && k > 1) continue;
        CAPTURE(k);
        Fixture f({.experts = 4, .top_k = k, .weight = form}, blocks, 2);
        const auto x = pictures(9);
        const auto y = f.output(x);
        const auto chosen = f.chosen;
        const auto weight = f.weight;
        std::vector<double> want(y.size());
        const size_t size = y.size() / 9;
        for (int64_t e = 0; e < 4; ++e) {
          f.orders.layers = {{.layer = 0, .expert = e}};
          const auto alone = f.output(x);
          CHECK(std::ranges::count(f.chosen, e) == 9);
          for (size_t c = 0; c < chosen.size(); ++c) {
            if (chosen[c] != e) continue;
            const size_t image = c / size_t(k);
            for (size_t i = 0; i < size; ++i) {
              want[image * size + i] += weight[c] * alone[image * size + i];
            }
          }
        }
        CHECK(distance(y, want) < 1e-12);
        // More than one expert is chosen, or this would say little.
        CHECK(std::ranges::count(chosen, chosen[0]) < static_cast<int64_t>(chosen.size()));
      }
    }
  }
}

TEST_CASE("image moe: every router") {
  for (const ImageRouterKind kind :
       {ImageRouterKind::kGapFc, ImageRouterKind::kConvGap, ImageRouterKind::kTwoConvGap,
        ImageRouterKind::kRandom, ImageRouterKind::kFirstChannels}) {
    CAPTURE(static_cast<int>(kind));
    Fixture f({.experts = 3, .top_k = 2, .router = kind, .weight = GateWeight::kNormalised});
    const auto op = [&](std::span<const Tensor> x) { return f.run(*x[0].tape(), x[0]); };
    const auto report = gradcheck_along(op, {Shape{4, kSide, kSide, kChannels}});
    CHECK_MESSAGE(report.ok(), report);
    // The scores are a softmax of what the formula says.
    const auto x = pictures(2);
    f.output(x);
    StepArena arena;
    Tape tape(arena);
    f.run(tape, tape.input(view(x, {2, kSide, kSide, kChannels})));
    const auto logits = f64_of(f.pass.routings[0].logits);
    const auto param = [&](const std::string& path) {
      return f64_of(f.store.view(f.store.find("router." + path), Slab::kValue));
    };
    std::vector<double> mean(2 * kChannels);
    for (size_t i = 0; i < x.size(); ++i) {
      mean[i / kPicture * kChannels + i % kChannels] += x[i] / (kSide * kSide);
    }
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t e = 0; e < 3; ++e) {
        double want = 0;
        if (kind == ImageRouterKind::kGapFc || kind == ImageRouterKind::kRandom) {
          const auto w = param(kind == ImageRouterKind::kGapFc ? "weight" : "vectors");
          for (int64_t c = 0; c < kChannels; ++c)
            want += mean[size_t(b * kChannels + c)] * w[size_t(c * 3 + e)];
          if (kind == ImageRouterKind::kGapFc) want += param("bias")[size_t(e)];
        } else if (kind == ImageRouterKind::kFirstChannels) {
          want = mean[size_t(b * kChannels + e)];
        } else if (kind == ImageRouterKind::kConvGap) {
          const auto w = param("weight");
          for (int64_t i = 0; i < 3; ++i) {
            for (int64_t j = 0; j < 3; ++j) {
              for (int64_t u = 0; u < 3; ++u) {
                for (int64_t v = 0; v < 3; ++v) {
                  for (int64_t c = 0; c < kChannels; ++c) {
                    want += x[size_t(((b * kSide + i + u) * kSide + j + v) * kChannels + c)] *
                            w[size_t(((u * 3 + v) * kChannels + c) * 3 + e)] / 9;
                  }
                }
              }
            }
          }
        } else {
          const auto w1 = param("conv1.weight"), w2 = param("conv2.weight");
          const auto m = param("bn.running_mean"), v = param("bn.running_var");
          const auto s = param("bn.weight"), o = param("bn.bias");
          for (int64_t h = 0; h < 8; ++h) {  // all linear, so the mean may come first
            double z = 0;
            for (int64_t c = 0; c < kChannels; ++c)
              z += mean[size_t(b * kChannels + c)] * w1[size_t(c * 8 + h)];
            const auto at = size_t(h);
            want += ((z - m[at]) / std::sqrt(v[at] + 1e-5) * s[at] + o[at]) * w2[size_t(h * 3 + e)];
          }
        }
        CHECK(logits[size_t(b * 3 + e)] == doctest::Approx(want).epsilon(1e-10));
      }
    }
  }
}

TEST_CASE("image moe: gradients of experts and router") {
  for (const GateWeight form : {GateWeight::kNormalised, GateWeight::kPlain}) {
    Fixture f({.experts = 3, .top_k = 2, .weight = form}, true);
    const auto op = [&](std::span<const Tensor> x) { return f.run(*x[0].tape(), x[0]); };
    const auto report = gradcheck_along(op, {Shape{3, kSide, kSide, kChannels}});
    CHECK_MESSAGE(report.ok(), report);
    // Every parameter, in one random direction each, of <v, y>.
    const auto x = pictures(3);
    const auto value = [&](bool backward) {
      StepArena arena;
      Tape tape(arena);
      const Tensor y =
          f.run(tape, tape.input(view(x, {3, kSide, kSide, kChannels})), nn::Mode::kEval, backward);
      const auto v = values<double>(y.numel(), 5);
      double dot = 0;
      for (int64_t i = 0; i < y.numel(); ++i) dot += v[size_t(i)] * y.data<const double>()[i];
      if (backward) tape.backward(y, view(v, y.shape()));
      return dot;
    };
    f.store.zero(Slab::kGrad);
    value(true);
    uint64_t seed = 900;
    for (const auto& entry : f.store.entries()) {
      if (!entry.trainable) continue;
      CAPTURE(entry.path);
      const auto before = f64_of(f.store.view(entry, Slab::kValue));
      const auto g = f64_of(f.store.view(entry, Slab::kGrad));
      const auto along = values<double>(entry.shape.numel(), ++seed);
      const auto at = [&](double t) {
        naive::Vec moved = before;
        for (size_t i = 0; i < moved.size(); ++i) moved[i] += t * along[i];
        set_param(f.store, entry.path, moved);
        return value(false);
      };
      const double numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
      set_param(f.store, entry.path, before);
      double analytic = 0;
      for (size_t i = 0; i < g.size(); ++i) analytic += g[i] * along[i];
      CHECK(analytic == doctest::Approx(numeric).epsilon(1e-5).scale(1));
    }
  }
}

TEST_CASE("image moe: an expert sees the images that chose it, and no others") {
  Fixture f({.experts = 4, .top_k = 1}, true);
  const auto before = params_of(f.store);
  const auto x = pictures(7);
  f.output(x, nn::Mode::kTrain);
  for (int32_t e = 0; e < 4; ++e) {
    const bool used = std::ranges::count(f.chosen, e) > 0;
    const std::string path = "experts." + std::to_string(e) + ".bn1.running_mean";
    CHECK((params_of(f.store).at(path) != before.at(path)) == used);
  }
  CHECK(std::ranges::count(f.chosen, f.chosen[0]) < 7);
  // Those that nobody chose get no gradient.
  Fixture one({.experts = 4, .top_k = 1}, false);
  StepArena arena;
  Tape tape(arena);
  const auto single = pictures(1);
  one.store.zero(Slab::kGrad);
  const Tensor y =
      one.run(tape, tape.input(view(single, {1, kSide, kSide, kChannels})), nn::Mode::kEval, true);
  tape.backward(y, view(std::vector<double>(size_t(y.numel()), 1), y.shape()));
  const int32_t chosen = one.pass.routings[0].chosen.data<const int32_t>()[0];
  for (int32_t e = 0; e < 4; ++e) {
    const auto g = f64_of(
        one.store.view(one.store.find("experts." + std::to_string(e) + ".weight"), Slab::kGrad));
    CHECK(std::ranges::any_of(g, [](double v) { return v != 0; }) == (e == chosen));
  }
  // Straight-through: the router learns though the weight is 1.
  CHECK(f64_of(one.pass.routings[0].weight)[0] == 1);
  const auto g = f64_of(one.store.view(one.store.find("router.weight"), Slab::kGrad));
  CHECK(std::ranges::any_of(g, [](double v) { return v != 0; }));
}

TEST_CASE("image moe: capacity holds in training only") {
  Fixture f({.experts = 3, .top_k = 1, .noisy_selection = true, .capacity_factor = 1});
  const auto x = pictures(12);
  f.output(x, nn::Mode::kTrain);
  for (int32_t e = 0; e < 3; ++e) CHECK(std::ranges::count(f.chosen, e) == 4);
  CHECK(f.pass.routings[0].capacity == 4);
  f.output(x);
  CHECK(f.pass.routings[0].capacity == 0);
  CHECK(f.pass.routings[0].sigma == 0);
}

TEST_CASE("image moe: same bits for threads and in any batch, no heap allocation when warm") {
  Fixture f({.experts = 3, .top_k = 2, .weight = GateWeight::kNormalised}, true, 1,
            engine::Dtype::kF32);
  const auto x = values<float>(9 * kPicture, 77, 2);
  const auto all = f.output<float>(x);
  const size_t size = all.size() / 9;
  for (size_t i = 0; i < 9; i += 4) {
    const auto alone =
        f.output<float>({x.begin() + int64_t(i) * kPicture, x.begin() + int64_t(i + 1) * kPicture});
    CHECK(same_bytes(alone,
                     {all.begin() + int64_t(i * size), all.begin() + int64_t((i + 1) * size)}));
  }
  CHECK(same_bits_for_threads([&] { return f.output<float>(x); }));
  if (!HeapCounter::available()) return;
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> dy(all.size(), 1);
  const auto step = [&] {
    const HeapCounter heap;
    tape.clear();
    arena.reset();
    const Tensor y =
        f.run(tape, tape.input(view(x, {9, kSide, kSide, kChannels})), nn::Mode::kEval, true);
    tape.backward(y, view(dy, y.shape()));
    return heap.count();
  };
  for (int i = 0; i < 3; ++i) step();
  CHECK(step() == 0);
}

TEST_CASE(
    "image moe: a grid routes patches, and one expert for all makes what it makes of the whole") {
  constexpr int64_t side = 8, picture = side * side * kChannels;
  const auto run = [&](Fixture& f, const std::vector<double>& x, Tape& tape) {
    return f.run(tape, tape.input(view(x, {3, side, side, kChannels})));
  };
  const auto x = values<double>(3 * picture, 31, 2);
  for (const int64_t stride : {1, 2}) {
    CAPTURE(stride);
    const ImageMoeConfig config{.experts = 3, .top_k = 2, .weight = GateWeight::kPlain};
    ImageMoeConfig cut = config;
    cut.grid = 2;
    Fixture whole(config, false, stride), patches(cut, false, stride);
    // Means over pixels are small beside a bias.
    set_param(patches.store, "router.bias", naive::Vec(3));
    whole.orders.layers = patches.orders.layers = {{.layer = 0, .expert = 1}};
    StepArena arena;
    Tape tape(arena);
    const auto want = copy_of<double>(run(whole, x, tape));
    CHECK(distance(copy_of<double>(run(patches, x, tape)), want) < 1e-12);
    // Otherwise each patch goes its own way.
    patches.orders.layers.clear();
    CHECK(distance(copy_of<double>(run(patches, x, tape)), want) > 1e-3);
    const moe::Routing& r = patches.pass.routings[0];
    CHECK(r.images == 3);
    CHECK(r.tokens == 4);
    const auto chosen = copy_of<int32_t>(r.chosen);
    CHECK(chosen.size() == 3 * 4 * 2);
    CHECK(std::ranges::count(chosen, chosen[0]) < 12);
    const auto op = [&](std::span<const Tensor> v) { return patches.run(*v[0].tape(), v[0]); };
    const auto report = gradcheck_along(op, {Shape{3, side, side, kChannels}});
    CHECK_MESSAGE(report.ok(), report);
    CHECK(caught([&] {
            patches.run(tape, tape.input(view(x, {2, 6, 16, kChannels})));
          }).is(ErrorKind::kShape, {"6 x 16"}) == (stride == 2));
  }
}

TEST_CASE("image moe: choices of another pass, as constants") {
  Fixture f({.experts = 3, .top_k = 2, .weight = GateWeight::kPlain});
  set_param(f.store, "router.bias", naive::Vec(3));
  const auto x = pictures(4), other = values<double>(4 * kPicture, 5, 2);
  const auto y = f.output(x);
  std::vector<int32_t> chosen = f.chosen;
  naive::Vec weight = f.weight;
  f.output(other);
  CHECK(f.chosen != chosen);  // or freezing would show nothing
  f.orders.layers = {{.layer = 0, .chosen = view(chosen, {4, 2}), .weight = view(weight, {4, 2})}};
  CHECK(f.output(x) == y);
  f.output(other);
  CHECK(f.chosen == chosen);
  CHECK(f.weight == weight);
  // No gradient goes by way of the router.
  StepArena arena;
  Tape tape(arena);
  f.store.zero(Slab::kGrad);
  const Tensor out =
      f.run(tape, tape.input(view(x, {4, kSide, kSide, kChannels})), nn::Mode::kEval, true);
  tape.backward(out, view(std::vector<double>(size_t(out.numel()), 1), out.shape()));
  const auto grad = [&](const std::string& path) {
    const auto g = f64_of(f.store.view(f.store.find(path), Slab::kGrad));
    return std::ranges::any_of(g, [](double v) { return v != 0; });
  };
  CHECK(!grad("router.weight"));
  CHECK(grad("experts.0.weight"));
  // Orders for other layers, and of other sizes.
  f.orders.layers[0].layer = 1;
  CHECK(f.output(x) == y);
  f.orders.layers[0].layer = 0;
  CHECK(caught([&] { f.output(pictures(3)); }).is(ErrorKind::kShape, {"layer 0"}));
}

TEST_CASE("image moe: costs") {
  Fixture f({.experts = 4, .top_k = 2, .weight = GateWeight::kPlain});
  nn::PictureSize size{kSide, kSide};
  nn::Cost cost;
  f.layer->add_cost(size, cost);
  const int64_t one = kSide * kSide * 9 * kChannels * 4;
  CHECK(cost.active == 2 * one);
  CHECK(cost.all == 4 * one);
  CHECK(cost.routers == kChannels * 4);
  CHECK(size.h == kSide);
  // Pictures that it could not work on.
  const auto refused = [](const ImageMoeConfig& config, bool blocks, int64_t stride, int64_t side) {
    const Fixture on(config, blocks, stride);
    nn::PictureSize seen{side, side};
    nn::Cost none;
    return caught([&] { on.layer->add_cost(seen, none); });
  };
  const ImageMoeConfig four{.experts = 4, .grid = 4};
  CHECK(refused(four, false, 1, 6).is(ErrorKind::kValue, {"here", "6 x 6", "4 x 4"}));
  CHECK(refused(four, false, 2, 12).is(ErrorKind::kValue, {"stride 2"}));
  CHECK(!refused(four, false, 1, 12).kind);
  const ImageMoeConfig kernel{.experts = 4, .router = ImageRouterKind::kConvGap};
  CHECK(refused(kernel, false, 1, 2).is(ErrorKind::kValue, {"conv-gap", "2 x 2"}));
  CHECK(!refused(kernel, false, 1, 3).kind);
  CHECK(refused({.experts = 4}, true, 2, 2).is(ErrorKind::kValue, {"variance"}));
  CHECK(!refused({.experts = 4}, true, 2, 3).kind);
  CHECK(!refused({.experts = 4}, false, 2, 2).kind);  // norms are outside
}

TEST_CASE("image moe: rejects what it cannot do") {
  CHECK(caught([] { ImageMoeConfig{.experts = 1}.check(); }).is(ErrorKind::kValue, {"1 experts"}));
  CHECK(caught([] { ImageMoeConfig{.experts = 2, .top_k = 3}.check(); }).is(ErrorKind::kValue));
  CHECK(caught([] {
          ImageMoeConfig{.experts = 2, .top_k = 2}.check();
        }).is(ErrorKind::kValue, {"straight-through"}));
  CHECK(
      caught([] { ImageMoeConfig{.capacity_factor = -1}.check(); }).is(ErrorKind::kValue, {"-1"}));
  CHECK(caught([] {
          Fixture f({.experts = 7, .router = ImageRouterKind::kFirstChannels});
        }).is(ErrorKind::kValue, {"6 channels", "7 experts"}));
  Fixture f({.experts = 3});
  f.orders.layers = {{.layer = 0, .expert = 3}};
  CHECK(caught([&] { f.output(pictures(1)); }).is(ErrorKind::kValue, {"no expert 3"}));
  StepArena arena;
  Tape tape(arena);
  nn::Forward nobody{.tape = tape};
  const auto x = pictures(1);
  CHECK(caught([&] {
          f.layer->forward(nobody, tape.input(view(x, {1, kSide, kSide, kChannels})));
        }).is(ErrorKind::kInternal, {"nobody"}));
}
