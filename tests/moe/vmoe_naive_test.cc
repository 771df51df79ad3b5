#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/model_fixture.h"

// The engine against the whole V-MoE in plain f64 loops (tests/reference/naive_vmoe.h).
using namespace engine::test;
using moe::VmoeConfig;

namespace {

// One model, its losses, and which random numbers the caller brings.
struct Case {
  std::string name;
  VmoeConfig config = small_vmoe();
  Losses losses = {};
  bool dropout = false;
  nn::Mode mode = nn::Mode::kTrain;
  bool drops = false;  // whether the case must show dropped choices
};

VmoeConfig with_capacity(VmoeConfig c, double factor, int64_t group_images) {
  c.moe.dispatch = moe::Dispatch::kCapacity;
  c.moe.capacity_factor = factor;
  c.moe.capacity_multiple_of = 1;
  c.moe.group_images = group_images;
  return c;
}

std::vector<Case> routing_cases() {
  std::vector<Case> cases;
  for (const int64_t k : {1, 2, 4}) {
    const std::string name = "K = " + std::to_string(k);
    cases.push_back({.name = name + ", dropless", .config = small_vmoe(4, k)});
    cases.push_back({.name = name + ", one group",
                     .config = with_capacity(small_vmoe(4, k), .8, 0),
                     .drops = true});
    cases.push_back({.name = name + ", four groups",
                     .config = with_capacity(small_vmoe(4, k), .9, 2),
                     .losses = {.importance = 0.7, .load = k < 4 ? 0.9 : 0},
                     .dropout = true,
                     .drops = true});
  }
  for (const int64_t k : {1, 2}) {
    Case priority{.name = "batch priority, K = " + std::to_string(k),
                  .config = with_capacity(small_vmoe(4, k), .8, 2),
                  .losses = {.importance = 0.7, .load = 0.9},
                  .drops = true};
    priority.config.moe.batch_priority = true;
    cases.push_back(priority);
  }
  Case odd{.name = "seven experts, K = 3", .config = small_vmoe(7, 3)};
  odd.config.moe_layers = {1};
  cases.push_back(odd);
  Case multiple{.name = "capacity in multiples of 4",
                .config = with_capacity(small_vmoe(), .7, 2),
                .drops = true};
  multiple.config.moe.capacity_multiple_of = 4;
  cases.push_back(multiple);
  return cases;
}

std::vector<Case> loss_cases() {
  using moe::PrcForm;
  std::vector<Case> cases = {
      {.name = "importance", .losses = {.importance = 0.7}},
      {.name = "load", .losses = {.load = 0.9}},
      {.name = "load, K = 1", .config = small_vmoe(4, 1), .losses = {.load = 0.9}},
      {.name = "sigmoid", .losses = {.cross_entropy = engine::CrossEntropy::kSigmoid}}};
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    const std::string name = form == PrcForm::kPaper ? "paper" : "fork";
    cases.push_back({.name = "PRC " + name, .losses = {.prc = form}});
    cases.push_back({.name = "PRC " + name + " without the class tokens",
                     .losses = {.prc = form, .pair_class_tokens = false}});
    Case mean{.name = "PRC " + name + " of a model without class token", .losses = {.prc = form}};
    mean.config.vit.pool = nn::Pool::kMean;
    cases.push_back(mean);
    Case all{.name = "everything and PRC " + name,
             .config = with_capacity(small_vmoe(4, 2), .9, 4),
             .losses = {.importance = 0.7, .load = 0.9, .prc = form},
             .dropout = true,
             .drops = true};
    all.losses.cross_entropy = engine::CrossEntropy::kSigmoid;
    all.config.vit.pre_logits = true;
    all.config.vit.gelu = engine::GeluForm::kErf;
    cases.push_back(all);
  }
  return cases;
}

std::vector<Case> model_cases() {
  std::vector<Case> cases(11);
  cases[0].name = "pre_logits";
  cases[0].config.vit.pre_logits = true;
  cases[1].name = "mean of the patches";
  cases[1].config.vit.pool = nn::Pool::kMean;
  cases[2].name = "erf GELU";
  cases[2].config.vit.gelu = engine::GeluForm::kErf;
  cases[3].name = "dropout of the experts";
  cases[3].dropout = true;
  cases[4].name = "without noise";
  cases[4].config.moe.noise_std = 0;
  cases[5].name = "every block a mixture, larger noise";
  cases[5].config.moe_layers = {0, 1, 2};
  cases[5].config.moe.noise_std = 3;
  cases[6].name = "evaluation: no noise, no dropout, dropless";
  cases[6].config = with_capacity(small_vmoe(), .5, 2);
  cases[6].dropout = true;
  cases[6].mode = nn::Mode::kEval;
  cases[7].name = "evaluation with a capacity";
  cases[7].config = with_capacity(small_vmoe(), 4, 2);
  cases[7].config.moe.eval_capacity_factor = 0.9;
  cases[7].mode = nn::Mode::kEval;
  cases[7].drops = true;
  cases[8].name = "evaluation with another K";
  cases[8].config.moe.eval_top_k = 1;
  cases[8].mode = nn::Mode::kEval;
  cases[9].name = "stochastic depth";
  cases[9].config = with_capacity(small_vmoe(), .8, 2);
  cases[9].config.stochastic_depth = 0.6;
  cases[9].losses = {.importance = 0.7, .load = 0.9, .prc = moe::PrcForm::kPaper};
  cases[9].drops = true;
  cases[10].name = "evaluation skips nothing";
  cases[10].config.stochastic_depth = 0.6;
  cases[10].mode = nn::Mode::kEval;
  return cases;
}

// Whom stochastic depth skips in a step of run_step(), by its documented key and rates.
std::vector<naive::Vec> depth_factors(const VmoeConfig& c, int64_t images) {
  std::vector<naive::Vec> factors;
  for (int64_t branch = 0; branch < 2 * c.vit.layers; ++branch) {
    const double rate = c.stochastic_depth * static_cast<double>(branch / 2) /
                        static_cast<double>(c.vit.layers - 1);
    const engine::RngKey key = engine::RngKey(11, engine::Purpose::kStochasticDepth)
                                   .with(5)
                                   .with(static_cast<uint64_t>(branch));
    naive::Vec& factor = factors.emplace_back();
    for (uint64_t n = 0; n < static_cast<uint64_t>(images); ++n) {
      const bool skips = key.uniform(n) < rate;
      factor.push_back(skips ? 0.0 : double{static_cast<float>(1 / (1 - rate))});
    }
  }
  return factors;
}

// The smallest gap between the gate that was chosen last and the next one.
double margin(const naive::Result& r, int64_t experts, int64_t k) {
  double least = k == experts ? 1 : INFINITY;
  for (const naive::LayerTrace& t : r.layers) {
    for (size_t i = 0; i < t.noisy.size() && k < experts; i += static_cast<size_t>(experts)) {
      naive::Vec row(t.noisy.begin() + static_cast<int64_t>(i),
                     t.noisy.begin() + static_cast<int64_t>(i) + experts);
      std::sort(row.rbegin(), row.rend());
      least = std::min(least, row[k - 1] - row[k]);
    }
  }
  return least;
}

template <class T>
void check_case(const Case& one, double tolerance) {
  INFO(one.name);
  const VmoeConfig& c = one.config;
  Batch<T> batch = random_batch<T>(c, 8);
  if (c.moe.noise_std > 0) add_noise(batch, c);
  if (one.dropout) add_dropout(batch, c);
  Bound<moe::Vmoe> bound(c, engine::dtype_of<T>());
  randomise(bound.store);
  const Step got = run_step(bound, batch, one.losses, one.mode);
  naive::Inputs in = naive_inputs(batch, one.mode);
  if (one.mode == nn::Mode::kTrain) in.depth = depth_factors(c, batch.count);
  const naive::Result want =
      naive::run(naive_config(c, one.losses, one.mode), params_of(bound.store), in);
  const int64_t k = naive_config(c, one.losses, one.mode).top_k;
  REQUIRE(margin(want, c.moe.experts, k) > 1e-5);
  CHECK((got.dropped > 0) == one.drops);

  REQUIRE(got.layers.size() == want.layers.size());
  for (size_t i = 0; i < got.layers.size(); ++i) {
    CHECK(got.layers[i].expert == want.layers[i].expert);
    CHECK(error_of(got.layers[i].logits, want.layers[i].logits) <= tolerance);
    CHECK(error_of(got.layers[i].clean, want.layers[i].clean) <= tolerance);
    CHECK(error_of(got.layers[i].noisy, want.layers[i].noisy) <= tolerance);
    CHECK(error_of(got.layers[i].weight, want.layers[i].weight) <= tolerance);
  }
  CHECK(error_of(got.logits, want.logits) <= tolerance);
  CHECK(error_of(got.cross_entropy, want.cross_entropy) <= tolerance);
  CHECK(error_of(got.importance, want.importance) <= tolerance);
  CHECK(error_of(got.load, want.load) <= tolerance);
  CHECK(error_of(got.prc, want.prc) <= tolerance);
  CHECK(error_of(got.total, want.total) <= tolerance);
  const WorstTensor worst = worst_of(got.grads, want.grads);
  CHECK_MESSAGE(worst.ok(tolerance), worst);
  // Nothing is compared with zeros only.
  for (const auto& [name, grad] : want.grads) {
    CHECK(*std::max_element(grad.begin(), grad.end()) > 0);
  }
}

}  // namespace

TEST_CASE("vmoe against the naive model in f64: routing") {
  for (const Case& one : routing_cases()) check_case<double>(one, 1e-9);
}

TEST_CASE("vmoe against the naive model in f64: losses") {
  for (const Case& one : loss_cases()) check_case<double>(one, 1e-9);
}

TEST_CASE("vmoe against the naive model in f64: variants of the model") {
  for (const Case& one : model_cases()) check_case<double>(one, 1e-9);
}

TEST_CASE("vmoe against the naive model in f32") {
  for (const Case& one : routing_cases()) check_case<float>(one, 1e-4);
  for (const Case& one : loss_cases()) check_case<float>(one, 1e-4);
  for (const Case& one : model_cases()) check_case<float>(one, 1e-4);
}

TEST_CASE("vmoe against the naive model: a batch whose views have nothing in common") {
  for (const moe::PrcForm form : {moe::PrcForm::kPaper, moe::PrcForm::kFork}) {
    const VmoeConfig c = small_vmoe();
    Batch<double> batch = random_batch<double>(c, 4);
    add_noise(batch, c);
    std::fill(batch.match.begin(), batch.match.end(), -1);
    Bound<moe::Vmoe> bound(c);
    randomise(bound.store);
    const Losses losses{.prc = form, .pair_class_tokens = false};
    const Step got = run_step(bound, batch, losses);
    const Step without = run_step(bound, batch, Losses{});
    CHECK(got.prc == 0);
    CHECK(got.grads == without.grads);
    const naive::Result want =
        naive::run(naive_config(c, losses), params_of(bound.store), naive_inputs(batch));
    CHECK(error_of(got.total, want.total) <= 1e-9);
  }
}

TEST_CASE("vmoe against the naive model: a model of the naive's names and shapes") {
  for (const bool pre_logits : {false, true}) {
    VmoeConfig c = small_vmoe();
    c.vit.pre_logits = pre_logits;
    c.vit.pool = pre_logits ? nn::Pool::kMean : nn::Pool::kToken;
    moe::Vmoe model(c);
    const Declared declared(model);
    const auto shapes = naive::parameter_shapes(naive_config(c));
    REQUIRE(declared.store.entries().size() == shapes.size());
    for (size_t i = 0; i < shapes.size(); ++i) {
      const auto& entry = declared.store.entries()[i];
      CHECK(entry.path == shapes[i].first);
      REQUIRE(entry.shape.rank() == static_cast<int>(shapes[i].second.size()));
      for (int axis = 0; axis < entry.shape.rank(); ++axis) {
        CHECK(entry.shape[axis] == shapes[i].second[static_cast<size_t>(axis)]);
      }
    }
  }
}
