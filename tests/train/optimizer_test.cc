#include "train/optimizer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>
#include <vector>

#include "tests/support/bits.h"

using engine::ParamStore;
using engine::Slab;
using engine::test::copy_of;
using engine::test::values;
using train::Config;
using train::Optimizer;

namespace {

// A kernel of 3 weights, a bias of 2 and a running statistic of 2, each followed by padding.
template <class T>
struct Fixture {
  explicit Fixture(const Config& config) {
    store.declare("layer.weight", {3, 1}, true, true);
    store.declare("layer.bias", {2}, false, true);
    store.declare("layer.statistic", {2}, false, false);
    store.allocate(engine::dtype_of<T>());
    put("layer.weight", Slab::kValue, {1, -2, 0.5});
    put("layer.bias", Slab::kValue, {0.25, -0.75});
    put("layer.statistic", Slab::kValue, {7, 8});
    optimizer.emplace(config, store);
  }
  void put(const char* path, Slab slab, const std::vector<double>& numbers) {
    T* to = store.view(store.find(path), slab).template data<T>();
    for (size_t i = 0; i < numbers.size(); ++i) to[i] = static_cast<T>(numbers[i]);
  }
  std::vector<T> get(const char* path, Slab slab) const {
    return copy_of<T>(store.view(store.find(path), slab));
  }
  void step(int64_t update, double rate, const std::vector<double>& weight,
            const std::vector<double>& bias) {
    put("layer.weight", Slab::kGrad, weight);
    put("layer.bias", Slab::kGrad, bias);
    optimizer->step(update, rate, optimizer->gradient_norm());
  }
  bool is(const char* path, Slab slab, const std::vector<double>& want) const {
    const double tolerance = std::is_same_v<T, float> ? 1e-6 : 1e-14;
    return engine::test::distance(get(path, slab), want) < tolerance;
  }

  ParamStore store;
  std::optional<Optimizer> optimizer;
};

Config adam() {
  Config config;
  config.optimizer.beta1 = 0.8;
  config.optimizer.beta2 = 0.95;
  config.optimizer.eps = 1e-3;
  return config;
}

Config sgd(double momentum = 0.5) {
  Config config;
  config.optimizer.name = "sgd";
  config.optimizer.momentum = momentum;
  return config;
}

}  // namespace

TEST_CASE_TEMPLATE("optimizer: two steps of adam", T, double, float) {
  Config config = adam();
  config.optimizer.weight_decay = 0.1;
  Fixture<T> f(config);
  f.step(0, 0.01, {0.3, -0.2, 0}, {0.5, 2});
  // With the bias corrections the first update is g / (|g| + eps).
  const auto first = [](double w, double g, double decay) {
    return w - 0.01 * (g / (std::abs(g) + 1e-3) + decay * w);
  };
  const double w0 = first(1, 0.3, 0.1), w1 = first(-2, -0.2, 0.1), w2 = first(0.5, 0, 0.1);
  const double b0 = first(0.25, 0.5, 0), b1 = first(-0.75, 2, 0);
  CHECK(f.is("layer.weight", Slab::kValue, {w0, w1, w2}));
  CHECK(f.is("layer.bias", Slab::kValue, {b0, b1}));
  CHECK(f.is("layer.weight", Slab::kMoment1, {0.06, -0.04, 0}));
  CHECK(f.is("layer.weight", Slab::kMoment2, {0.0045, 0.002, 0}));

  f.step(1, 0.02, {-0.1, 0.4, 0.2}, {1, 0});
  // (1 - b) and 1 - b^2 = (1 - b)(1 + b) cancel: m^ = (b1 g + g')/(1 + b1), v^ likewise.
  const auto second = [](double w, double g, double g2, double decay) {
    const double m = (0.8 * g + g2) / 1.8, v = (0.95 * g * g + g2 * g2) / 1.95;
    return w - 0.02 * (m / (std::sqrt(v) + 1e-3) + decay * w);
  };
  CHECK(f.is("layer.weight", Slab::kValue,
             {second(w0, 0.3, -0.1, 0.1), second(w1, -0.2, 0.4, 0.1), second(w2, 0, 0.2, 0.1)}));
  CHECK(f.is("layer.bias", Slab::kValue, {second(b0, 0.5, 1, 0), second(b1, 2, 0, 0)}));
}

TEST_CASE_TEMPLATE("optimizer: two steps of sgd", T, double, float) {
  Config config = sgd();
  config.optimizer.weight_decay = 0.5;
  Fixture<T> f(config);
  CHECK_FALSE(f.store.has(Slab::kMoment2));
  f.step(0, 0.1, {1, 2, -3}, {4, 5});
  CHECK(f.is("layer.weight", Slab::kMoment1, {1, 2, -3}));
  CHECK(f.is("layer.weight", Slab::kValue, {0.85, -2.1, 0.775}));  // w - 0.1 (g + w / 2)
  CHECK(f.is("layer.bias", Slab::kValue, {-0.15, -1.25}));
  f.step(1, 0.2, {-1, 1, 1}, {0, 2});
  CHECK(f.is("layer.weight", Slab::kMoment1, {-0.5, 2, -0.5}));
  CHECK(f.is("layer.weight", Slab::kValue, {0.865, -2.29, 0.7975}));
  CHECK(f.is("layer.bias", Slab::kValue, {-0.55, -2.15}));
}

// What PyTorch 2.15 makes of these steps with torch.optim.SGD(lr=0.1, momentum=0.5,
// weight_decay=0.01), with and without nesterov, and Adam(lr=0.1, betas=(0.8, 0.95), eps=1e-3,
// weight_decay=0.01).
TEST_CASE_TEMPLATE("optimizer: decay in the gradient and Nesterov's momentum are PyTorch's", T,
                   double, float) {
  const auto after = [](Config config, const std::vector<double>& want) {
    config.optimizer.weight_decay = 0.01;
    config.optimizer.decay_form = "gradient";
    Fixture<T> f(config);
    f.step(0, 0.1, {0.5, 1, -1}, {0, 0});
    f.step(1, 0.1, {0.25, -0.5, 2}, {0, 0});
    f.step(2, 0.1, {1, 1, 1}, {0, 0});
    CHECK(f.is("layer.bias", Slab::kValue, {0.25, -0.75}));  // no kernel, no decay
    return f.is("layer.weight", Slab::kValue, want);
  };
  CHECK(after(sgd(), {0.770928949, -2.191258098, 0.2727770995}));
  Config nesterov = sgd();
  nesterov.optimizer.nesterov = true;
  CHECK(after(nesterov, {0.7077010778749999, -2.23935283075, 0.1848665858125}));
  CHECK(after(adam(), {0.7151752919890924, -2.175598520893256, 0.5007551010819522}));
}

TEST_CASE("optimizer: averaged weights come with the running statistics as they are") {
  Config config = sgd();
  config.train.ema = 0.75;
  Fixture<double> f(config);
  f.put("layer.statistic", Slab::kValue, {9, 10});
  f.step(0, 0.1, {1, 1, 1}, {1, 1});
  CHECK(f.is("layer.statistic", Slab::kEma, {9, 10}));
  CHECK(f.is("layer.weight", Slab::kEma, {0.75 + 0.25 * 0.9, -1.5 - 0.25 * 2.1, 0.375 + 0.1}));
}

TEST_CASE("optimizer: what decays is said by group") {
  for (const char* group : {"kernels", "all", "none"}) {
    CAPTURE(group);
    Config config = sgd();
    config.optimizer.weight_decay = 0.5;
    config.optimizer.decay = group;
    Fixture<double> f(config);
    f.step(0, 0.1, {0, 0, 0}, {0, 0});
    const bool kernels = config.optimizer.decay != "none", all = config.optimizer.decay == "all";
    CHECK(f.is("layer.weight", Slab::kValue,
               kernels ? std::vector{0.95, -1.9, 0.475} : std::vector<double>{1, -2, 0.5}));
    CHECK(f.is("layer.bias", Slab::kValue,
               all ? std::vector{0.2375, -0.7125} : std::vector{0.25, -0.75}));
    CHECK(f.is("layer.statistic", Slab::kValue, {7, 8}));
  }
}

TEST_CASE_TEMPLATE("optimizer: clip below, at and above the norm", T, double, float) {
  // |g| = |(1, 2, 2, 0, 4)| = 5
  for (const double clip : {0.0, 1.0, 4.99999, 5.0, 6.0}) {
    CAPTURE(clip);
    Config config = sgd(0);
    config.optimizer.clip = clip;
    Fixture<T> f(config);
    f.step(0, 0.0, {1, 2, 2}, {0, 4});
    const double factor = clip > 0 && clip < 5 ? clip / 5 : 1;
    CHECK(f.is("layer.weight", Slab::kMoment1, {factor, 2 * factor, 2 * factor}));
    CHECK(f.is("layer.bias", Slab::kMoment1, {0, 4 * factor}));
  }
}

TEST_CASE("optimizer: the norm leaves out what is not trained") {
  Fixture<double> f(sgd());
  f.put("layer.weight", Slab::kGrad, {1, 2, 2});
  f.put("layer.bias", Slab::kGrad, {0, 4});
  f.put("layer.statistic", Slab::kGrad, {100, 100});
  CHECK(f.optimizer->gradient_norm() == 5);
}

TEST_CASE_TEMPLATE("optimizer: averaged weights", T, double, float) {
  Config config = sgd(0);
  config.train.ema = 0.75;
  Fixture<T> f(config);
  CHECK(f.is("layer.weight", Slab::kEma, {1, -2, 0.5}));  // starts as the weights
  f.step(0, 1, {1, 0, 0}, {0, 1});
  CHECK(f.is("layer.weight", Slab::kEma, {0.75, -2, 0.5}));
  CHECK(f.is("layer.bias", Slab::kEma, {0.25, -1}));
  f.step(1, 1, {1, 4, 0}, {0, 0});
  CHECK(f.is("layer.weight", Slab::kEma, {0.3125, -3, 0.5}));
  CHECK(f.is("layer.bias", Slab::kEma, {0.25, -1.1875}));
  f.optimizer->reset_ema();
  CHECK(f.is("layer.weight", Slab::kEma, {-1, -6, 0.5}));
}

TEST_CASE("optimizer: gradients are zero afterwards, padding and statistics stay as they were") {
  for (const bool with_adam : {true, false}) {
    Config config = with_adam ? adam() : sgd();
    config.optimizer.decay = "all";
    config.optimizer.weight_decay = 0.1;
    config.train.ema = 0.5;
    Fixture<float> f(config);
    for (int64_t update = 0; update < 3; ++update) f.step(update, 0.1, {1, 2, 3}, {4, 5});
    CHECK(f.is("layer.weight", Slab::kGrad, {0, 0, 0}));
    CHECK(f.is("layer.bias", Slab::kGrad, {0, 0}));
    CHECK(f.is("layer.statistic", Slab::kValue, {7, 8}));
    CHECK(f.is("layer.statistic", Slab::kMoment1, {0, 0}));
    std::vector<bool> padding(static_cast<size_t>(f.store.padded_count()), true);
    for (const ParamStore::Entry& entry : f.store.entries()) {
      for (int64_t i = 0; i < entry.shape.numel(); ++i) {
        padding[static_cast<size_t>(entry.offset + i)] = false;
      }
    }
    for (const Slab slab : {Slab::kValue, Slab::kGrad, Slab::kMoment1, Slab::kEma}) {
      const std::vector<float> all = copy_of<float>(f.store.slab(slab));
      int64_t seen = 0, wrong = 0;
      for (size_t i = 0; i < all.size(); ++i) {
        seen += padding[i];
        wrong += padding[i] && all[i] != 0;
      }
      CHECK(seen > 20);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("optimizer: same bits for 1, 2 and 5 threads") {
  for (const bool with_adam : {true, false}) {
    CHECK(engine::test::same_bits_for_threads([&] {
      Config config = with_adam ? adam() : sgd();
      config.optimizer.clip = 1;
      config.optimizer.weight_decay = 0.01;
      config.train.ema = 0.9;
      ParamStore store;
      store.declare("a", {7, 13'001}, true, true);
      store.declare("b", {33}, false, true);
      store.allocate(engine::Dtype::kF32);
      Optimizer optimizer(config, store);
      std::vector<float> out;
      for (int64_t update = 0; update < 3; ++update) {
        const auto noise = values<float>(store.padded_count(), static_cast<uint64_t>(update) + 1);
        std::ranges::copy(noise, store.slab(Slab::kGrad).data<float>());
        const double norm = optimizer.gradient_norm();
        out.push_back(static_cast<float>(norm));
        optimizer.step(update, 0.01, norm);
      }
      for (const Slab slab : {Slab::kValue, Slab::kMoment1, Slab::kEma}) {
        const auto more = copy_of<float>(store.slab(slab));
        out.insert(out.end(), more.begin(), more.end());
      }
      return out;
    }));
  }
}
