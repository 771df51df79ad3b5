#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/vit.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::Dtype;
using engine::ErrorKind;
using engine::Shape;

namespace {

constexpr int64_t kCount = 200'000;
constexpr double kSigmas = 5;
// Standard deviation and fourth moment of a standard normal that is cut at +-2.
constexpr double kCutStd = 0.87962566103423978, kCutFourth = 1.416;

template <class T = double>
std::vector<T> drawn(const nn::Init& init, int64_t count = kCount, uint64_t seed = 1,
                     const std::string& path = "a.weight") {
  std::vector<T> v(static_cast<size_t>(count));
  nn::initialise(view(v, {count}), init, seed, path);
  return v;
}

struct Moments {
  double mean = 0, variance = 0, largest = 0;
};

Moments moments_of(const std::vector<double>& v) {
  Moments m;
  const auto n = static_cast<double>(v.size());
  for (const double x : v) m.mean += x / n;
  for (const double x : v) {
    m.variance += (x - m.mean) * (x - m.mean) / n;
    m.largest = std::max(m.largest, std::abs(x));
  }
  return m;
}

// Mean 0 and the variance within five standard errors; `fourth` is E[x^4] / variance^2.
void check_moments(const nn::Init& init, double variance, double fourth) {
  const Moments m = moments_of(drawn(init));
  const double n = kCount;
  CHECK(std::abs(m.mean) <= kSigmas * std::sqrt(variance / n));
  CHECK(std::abs(m.variance / variance - 1) <= kSigmas * std::sqrt((fourth - 1) / n));
}

}  // namespace

TEST_CASE("init: constants") {
  CHECK(drawn(nn::zeros(), 5) == std::vector<double>(5, 0));
  CHECK(drawn(nn::ones(), 5) == std::vector<double>(5, 1));
  CHECK(drawn(nn::constant(-2.5), 5) == std::vector<double>(5, -2.5));
}

TEST_CASE("init: normal has its moments and its tails") {
  check_moments(nn::normal(0.02), 0.02 * 0.02, 3);
  const auto v = drawn(nn::normal(1));
  int64_t beyond = 0;
  for (const double x : v) beyond += std::abs(x) > 2 ? 1 : 0;
  const double p = 0.0455003, n = kCount;
  CHECK(std::abs(static_cast<double>(beyond) / n - p) <= kSigmas * std::sqrt(p * (1 - p) / n));
  CHECK(moments_of(v).largest > 4);
}

TEST_CASE("init: a truncated normal ends at two standard deviations") {
  const double fourth = kCutFourth / std::pow(kCutStd, 4);
  check_moments(nn::truncated_normal(0.5), std::pow(0.5 * kCutStd, 2), fourth);
  const double largest = moments_of(drawn(nn::truncated_normal(0.5))).largest;
  CHECK(largest <= 1.0);
  CHECK(largest > 0.999);
}

TEST_CASE("init: LeCun and He normal have their variance after truncation") {
  const double fourth = kCutFourth / std::pow(kCutStd, 4);
  check_moments(nn::lecun_normal(3072), 1.0 / 3072, fourth);
  check_moments(nn::he_normal(64), 2.0 / 64, fourth);
  const double bound = 2 * std::sqrt(1.0 / 3072) / kCutStd;
  const double largest = moments_of(drawn(nn::lecun_normal(3072))).largest;
  CHECK(largest <= bound);
  CHECK(largest > 0.999 * bound);
}

TEST_CASE("init: Xavier uniform fills its interval evenly") {
  const double limit = std::sqrt(6.0 / (512 + 2048));
  check_moments(nn::xavier_uniform(512, 2048), limit * limit / 3, 9.0 / 5);
  CHECK(drawn(nn::xavier_uniform(512, 2048)) == drawn(nn::xavier_uniform(2048, 512)));
  std::vector<int64_t> bins(20);
  const auto v = drawn(nn::xavier_uniform(512, 2048));
  REQUIRE(moments_of(v).largest < limit);
  for (const double x : v) {
    ++bins[static_cast<size_t>((x / limit + 1) * 10)];
  }
  const double want = kCount / 20.0;
  for (const int64_t bin : bins) {
    CHECK(std::abs(static_cast<double>(bin) - want) <= kSigmas * std::sqrt(want));
  }
}

TEST_CASE("init: an element is a function of seed, path and index") {
  const nn::Init init = nn::normal(1);
  const auto all = drawn(init, 1000);
  const auto few = drawn(init, 10);
  CHECK(std::vector<double>(all.begin(), all.begin() + 10) == few);
  std::set<double> distinct(all.begin(), all.end());
  for (const uint64_t seed : {1, 2}) {
    for (const char* path : {"a.weight", "b.weight", "blocks.10.up", "blocks.1.0up"}) {
      if (seed == 1 && std::string(path) == "a.weight") continue;
      for (const double x : drawn(init, 1000, seed, path)) distinct.insert(x);
    }
  }
  CHECK(distinct.size() == 8000);
  const auto rounded = drawn<float>(init, 1000);
  for (size_t i = 0; i < all.size(); ++i) CHECK(rounded[i] == static_cast<float>(all[i]));
}

TEST_CASE("init: copies hold the same numbers") {
  nn::Init init = nn::xavier_uniform(3, 4);
  const auto one = drawn(init, 12);
  init.copies = 5;
  const auto five = drawn(init, 60);
  for (size_t i = 0; i < five.size(); ++i) CHECK(five[i] == one[i % 12]);
  CHECK(caught([&] { drawn(init, 61); }).is(ErrorKind::kShape));
  init.copies = 0;
  CHECK(caught([&] { drawn(init, 60); }).is(ErrorKind::kShape));
}

TEST_CASE("init: hash_path is FNV-1a of 64 bits") {
  CHECK(nn::hash_path("") == 0xcbf29ce484222325ull);
  CHECK(nn::hash_path("a") == 0xaf63dc4c8601ec8cull);
  CHECK(nn::hash_path("foobar") == 0x85944171f73967e8ull);
}

TEST_CASE("init: another layer does not change the others") {
  nn::VitConfig c{.image_size = 8, .patch = 4, .width = 12, .mlp = 20, .heads = 3, .layers = 2};
  const Bound<nn::Vit> two(c);
  c.layers = 3;
  const Bound<nn::Vit> three(c);
  const naive::Params a = params_of(two.store), b = params_of(three.store);
  CHECK(b.size() == a.size() + 12);
  for (const auto& [path, v] : a) CHECK(v == b.at(path));
  const Bound<nn::Vit> other(c, Dtype::kF64, /*seed=*/2);
  CHECK(params_of(other.store).at("blocks.0.mlp.up.weight") != b.at("blocks.0.mlp.up.weight"));
  CHECK(b.at("blocks.0.mlp.up.weight") != b.at("blocks.1.mlp.up.weight"));
}

namespace {

// A layer with a running statistic beside a parameter; twice(): a name that is there twice.
struct Counted {
  nn::Parameter weight, statistic;
  bool twice = false;
  void visit(nn::ParamVisitor& v) {
    v.parameter_named("weight", weight, {.shape = {3, 2}, .init = nn::constant(2), .kernel = true});
    v.parameter_named(twice ? "weight" : "statistic", statistic,
                      {.shape = {5}, .init = nn::ones(), .trainable = false});
  }
};

}  // namespace

TEST_CASE("init: the binder lays out and fills what visit() lists") {
  Counted layer;
  engine::ParamStore store;
  nn::Binder(store, 1, true).bind(layer, Dtype::kF32);
  CHECK(store.count() == 6);
  REQUIRE(store.entries().size() == 2);
  CHECK(store.entries()[0].decay);
  CHECK_FALSE(store.entries()[1].decay);
  CHECK_FALSE(store.entries()[1].trainable);
  CHECK(layer.weight.value.shape() == Shape{3, 2});
  CHECK(f64_of(layer.weight.value) == naive::Vec(6, 2));
  CHECK(f64_of(layer.weight.grad) == naive::Vec(6, 0));
  CHECK(f64_of(layer.statistic.value) == naive::Vec(5, 1));
  CHECK_FALSE(layer.statistic.grad.defined());

  Counted frozen;
  engine::ParamStore without;
  nn::Binder(without, 1, false).bind(frozen, Dtype::kF32);
  CHECK_FALSE(frozen.weight.grad.defined());
  CHECK_FALSE(without.has(engine::Slab::kGrad));

  Counted doubled;
  doubled.twice = true;
  engine::ParamStore refuses;
  CHECK(caught([&] {
          nn::Binder(refuses, 1, true).bind(doubled, Dtype::kF32);
        }).is(ErrorKind::kValue, {"weight", "twice"}));
}

TEST_CASE("init: a parameter on the tape wants a gradient unless the caller does not") {
  Counted layer;
  engine::ParamStore store;
  nn::Binder(store, 1, true).bind(layer, Dtype::kF32);
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape, .sample_ids = {}};
  CHECK(tape.wants_grad(layer.weight.on(f)));
  CHECK_FALSE(tape.wants_grad(layer.statistic.on(f)));
  CHECK_FALSE(nn::Parameter{}.on(f).defined());
  f.param_grads = false;
  CHECK_FALSE(tape.wants_grad(layer.weight.on(f)));
}
