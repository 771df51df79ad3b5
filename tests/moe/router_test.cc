#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/moe_layer.h"
#include "tests/reference/naive_layers.h"
#include "tests/support/bits.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::Dtype;
using engine::ErrorKind;

namespace {

constexpr int64_t kWidth = 6;

// A router with random weights of its own, and what it fills in of a Routing.
struct Routed {
  double sigma = 0;
  naive::Vec logits, clean, noisy_logits, gates, noise;
  naive::Indices chosen;
};

// What the pass is keyed by.
struct Keys {
  uint64_t seed = 1;
  int64_t step = 0, layer = 0;
  std::vector<int64_t> ids;
};

struct Fixture {
  explicit Fixture(const moe::MoeConfig& c) : config(c), router(kWidth, c) {
    nn::Binder(store, 1, true).bind(router, Dtype::kF64);
  }

  // x (images * tokens, width)
  Routed run(const std::vector<double>& x, int64_t tokens, nn::Mode mode, const Keys& keys,
             const std::vector<double>& noise = {}) {
    engine::StepArena arena;
    engine::Tape tape(arena);
    nn::Forward f{
        .tape = tape, .mode = mode, .seed = keys.seed, .step = keys.step, .sample_ids = keys.ids};
    const auto n = static_cast<int64_t>(x.size()) / kWidth;
    moe::Routing r;
    r.layer = keys.layer;
    r.images = n / tokens;
    r.tokens = tokens;
    r.experts = config.experts;
    r.top_k = config.top_k;
    moe::RoutingRandom random;
    if (!noise.empty()) random.noise = view(noise, {n, config.experts});
    router.forward(f, tape.input(view(x, {n, kWidth})), random, r);
    Routed out{
        r.sigma, f64_of(r.logits),    f64_of(r.clean), f64_of(r.noisy_logits), f64_of(r.gates),
        {},      indices_of(r.chosen)};
    for (size_t i = 0; i < out.logits.size(); ++i) {
      out.noise.push_back(out.noisy_logits[i] - out.logits[i]);
    }
    return out;
  }

  moe::MoeConfig config;
  moe::Router router;
  engine::ParamStore store;
};

std::vector<int64_t> first_ids(int64_t count) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(i);
  return ids;
}

// Noise of standard normals over `images` images of 10 tokens and 8 experts, by itself.
naive::Vec drawn(int64_t images, const Keys& keys) {
  Fixture fixture({.experts = 8, .top_k = 2, .noise_std = 8});  // sigma 1
  set_param(fixture.store, "weight", naive::Vec(kWidth * 8, 0));
  return fixture.run(std::vector<double>(images * 10 * kWidth), 10, nn::Mode::kTrain, keys).noise;
}

}  // namespace

TEST_CASE("router: logits, softmax, and the noise that a caller brings") {
  for (const auto& [experts, k] : {std::pair{4, 2}, {3, 3}, {1, 1}, {9, 4}}) {
    Fixture fixture({.experts = experts, .top_k = k, .noise_std = 0.8});
    randomise(fixture.store);
    const auto x = values<double>(10 * kWidth, 4);
    const auto noise = values<double>(10 * experts, 5, 2);
    const Routed r = fixture.run(x, 5, nn::Mode::kTrain, {}, noise);
    const naive::Vec weight = params_of(fixture.store).at("weight");
    naive::Vec logits(noise.size(), 0);
    for (int64_t i = 0; i < 10 * experts; ++i) {
      for (int64_t w = 0; w < kWidth; ++w) {
        logits[i] += x[i / experts * kWidth + w] * weight[w * experts + i % experts];
      }
    }
    naive::Vec noisy = logits;
    for (size_t i = 0; i < noisy.size(); ++i) noisy[i] += 0.8 / experts * noise[i];
    CHECK(r.sigma == 0.8 / experts);
    CHECK(error_of(r.logits, logits) <= 1e-13);
    CHECK(error_of(r.clean, naive::softmax(logits, experts)) <= 1e-13);
    CHECK(error_of(r.noisy_logits, noisy) <= 1e-13);
    CHECK(error_of(r.gates, naive::softmax(noisy, experts)) <= 1e-13);
    naive::Indices chosen(10 * k);
    for (int64_t n = 0; n < 10; ++n) {
      naive::top_k(&noisy[n * experts], experts, k, &chosen[n * k]);
    }
    CHECK(r.chosen == chosen);
  }
}

TEST_CASE("router: noise is standard normal times noise_std over the experts") {
  constexpr int64_t kImages = 400;
  const naive::Vec z = drawn(kImages, {.ids = first_ids(kImages)});
  const auto n = static_cast<double>(z.size());
  const auto [mean, variance] = naive::moments(z);
  CHECK(std::abs(mean) <= 5 / std::sqrt(n));
  CHECK(std::abs(variance - 1) <= 5 * std::sqrt(2 / n));
  double fourth = 0;
  for (const double v : z) fourth += std::pow(v, 4) / n;
  CHECK(std::abs(fourth - 3) <= 5 * std::sqrt(96 / n));
  // Neighbours along experts, tokens and images are not correlated.
  for (const int64_t lag : {1, 8, 80}) {
    double sum = 0;
    for (size_t i = lag; i < z.size(); ++i) sum += z[i] * z[i - lag] / n;
    CHECK(std::abs(sum) <= 5 / std::sqrt(n));
  }

  Fixture fixture({.experts = 4, .top_k = 2, .noise_std = 0.5});
  const Routed r = fixture.run(std::vector<double>(kImages * 10 * kWidth), 10, nn::Mode::kTrain,
                               {.ids = first_ids(kImages)});
  CHECK(r.sigma == 0.125);
  CHECK(std::sqrt(naive::moments(r.noise).second) == doctest::Approx(0.125).epsilon(0.03));
}

TEST_CASE("router: noise does not depend on the micro-batch, but on the sample") {
  const naive::Vec all = drawn(6, {.ids = {0, 1, 2, 3, 4, 5}});
  naive::Vec parts = drawn(1, {.ids = {0}});
  for (const auto& ids : {std::vector<int64_t>{1, 2}, {3, 4, 5}}) {
    const naive::Vec part = drawn(static_cast<int64_t>(ids.size()), {.ids = ids});
    parts.insert(parts.end(), part.begin(), part.end());
  }
  CHECK(same_bytes(parts, all));
  const naive::Vec turned = drawn(6, {.ids = {5, 4, 3, 2, 1, 0}});
  CHECK(naive::slice(turned, 0, 80) == naive::slice(all, 400, 80));
  CHECK(naive::slice(turned, 400, 80) == naive::slice(all, 0, 80));
  const naive::Vec twins = drawn(2, {.ids = {7, 7}});
  CHECK(naive::slice(twins, 0, 80) == naive::slice(twins, 80, 80));
}

TEST_CASE("router: noise differs between steps, layers, seeds and samples") {
  std::vector<naive::Vec> draws;
  for (const int64_t step : {0, 1, 2}) {
    for (const int64_t layer : {0, 1, 2}) {
      for (const uint64_t seed : {1, 2}) {
        for (const int64_t id : {0, 1, 2}) {
          draws.push_back(drawn(1, {.seed = seed, .step = step, .layer = layer, .ids = {id}}));
        }
      }
    }
  }
  naive::Vec every;
  for (const naive::Vec& v : draws) every.insert(every.end(), v.begin(), v.end());
  std::sort(every.begin(), every.end());
  CHECK(std::adjacent_find(every.begin(), every.end()) == every.end());
  CHECK(drawn(1, {.seed = 1, .step = 1, .layer = 2, .ids = {0}}) ==
        drawn(1, {.seed = 1, .step = 1, .layer = 2, .ids = {0}}));
}

TEST_CASE("router: same bits of the noise for any number of threads") {
  CHECK(same_bits_for_threads([] { return drawn(37, {.ids = first_ids(37)}); }));
}

TEST_CASE("router: no noise in evaluation, nor where it is switched off") {
  const auto x = values<double>(10 * kWidth, 4);
  const auto noise = values<double>(40, 5);
  for (const bool off : {false, true}) {
    Fixture fixture({.experts = 4, .top_k = 2, .noise_std = off ? 0.0 : 1.0});
    const Routed r = fixture.run(x, 5, off ? nn::Mode::kTrain : nn::Mode::kEval, {}, noise);
    CHECK(r.sigma == 0);
    CHECK(same_bytes(r.logits, r.noisy_logits));
    CHECK(same_bytes(r.clean, r.gates));
  }
}

TEST_CASE("router: noise needs one sample id an image") {
  Fixture fixture({.experts = 4, .top_k = 2});
  const auto x = values<double>(10 * kWidth, 4);
  CHECK(
      caught([&] { fixture.run(x, 5, nn::Mode::kTrain, {}); }).is(ErrorKind::kValue, {"2 images"}));
  CHECK(caught([&] {
          fixture.run(x, 5, nn::Mode::kTrain, {.ids = {1, 2, 3}});
        }).is(ErrorKind::kValue));
  CHECK_FALSE(caught([&] { fixture.run(x, 5, nn::Mode::kEval, {}); }).kind);
  const std::vector<double> wrong(10 * 3);
  CHECK(caught([&] { fixture.run(x, 5, nn::Mode::kTrain, {}, wrong); }).kind);
}

TEST_CASE("router: an all-zero router gives every gate 1/E and ties to the lower expert") {
  Fixture fixture({.experts = 5, .top_k = 3});
  set_param(fixture.store, "weight", naive::Vec(kWidth * 5, 0));
  const Routed r = fixture.run(values<double>(4 * kWidth, 4), 2, nn::Mode::kEval, {});
  for (const double g : r.gates) CHECK(g == doctest::Approx(0.2).epsilon(1e-15));
  for (size_t i = 0; i < r.chosen.size(); ++i) CHECK(r.chosen[i] == static_cast<int64_t>(i % 3));
}

TEST_CASE("router: two equal columns tie at the edge of the choice") {
  Fixture fixture({.experts = 4, .top_k = 2});
  naive::Vec weight(kWidth * 4, 0);
  weight[3] = 1;  // expert 3 reads x[0]; experts 0, 1 and 2 are equal
  set_param(fixture.store, "weight", weight);
  const Routed r = fixture.run({1, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0}, 2, nn::Mode::kEval, {});
  CHECK(r.chosen == naive::Indices{3, 0, 0, 1});
}

// A token that is NaN has NaN gates. It still gets K distinct experts, and its neighbours are
// routed as if it were not there: the trainer meets a NaN loss, not a crash.
TEST_CASE("router: a NaN token takes K distinct experts and leaves its neighbours alone") {
  Fixture fixture({.experts = 5, .top_k = 3});
  auto x = values<double>(4 * kWidth, 4);
  const Routed before = fixture.run(x, 2, nn::Mode::kEval, {});
  x[kWidth + 2] = std::numeric_limits<double>::quiet_NaN();
  const Routed after = fixture.run(x, 2, nn::Mode::kEval, {});
  CHECK(std::isnan(after.gates[5]));
  for (int64_t n = 0; n < 4; ++n) {
    naive::Indices own(after.chosen.begin() + n * 3, after.chosen.begin() + n * 3 + 3);
    if (n != 1) {
      CHECK(own ==
            naive::Indices(before.chosen.begin() + n * 3, before.chosen.begin() + n * 3 + 3));
    }
    std::sort(own.begin(), own.end());
    CHECK(own.front() >= 0);
    CHECK(own.back() < 5);
    CHECK(std::adjacent_find(own.begin(), own.end()) == own.end());
  }
}

TEST_CASE("router: one kernel, LeCun normal, no bias") {
  moe::Router router(400, {.experts = 8});
  const Declared declared(router);
  REQUIRE(declared.store.entries().size() == 1);
  const auto& entry = declared.store.entries()[0];
  CHECK(entry.path == "weight");
  CHECK(entry.shape == engine::Shape{400, 8});
  CHECK(entry.decay);
  engine::ParamStore store;
  nn::Binder(store, 1, true).bind(router, Dtype::kF64);
  const naive::Vec weight = params_of(store).at("weight");
  CHECK(naive::moments(weight).second == doctest::Approx(1.0 / 400).epsilon(0.1));
  for (const double w : weight) CHECK(std::abs(w) <= 2 / std::sqrt(400.0) / 0.8796);
}
