#include "moe/moe_layer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/core/precision.h"
#include "tests/moe/naive_expert.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::Dtype;
using engine::ErrorKind;
using engine::GeluForm;
using engine::Shape;
using engine::Slab;
using engine::Tensor;

namespace {

constexpr int64_t kImages = 4, kTokens = 3, kN = kImages * kTokens, kWidth = 6, kHidden = 9;

// What the caller of a layer decides.
struct Call {
  nn::Mode mode = nn::Mode::kTrain;
  std::vector<int64_t> ids = {0, 1, 2, 3};
  int64_t step = 0;
  bool param_grads = true;
  moe::RoutingRandom random = {};
};

// A layer in f64 with random parameters, run on fixed tokens.
struct Harness {
  explicit Harness(const moe::MoeConfig& c, int64_t hidden = kHidden, int64_t block = 3)
      : config(c), layer(block, kWidth, hidden, c, GeluForm::kTanh) {
    nn::Binder(store, 1, true).bind(layer, Dtype::kF64);
    randomise(store);
    x = values<double>(kN * kWidth, 21);
    residual = values<double>(kN * kWidth, 22);
    dy = values<double>(kN * kWidth, 23);
  }

  // Forward and backward; parameter gradients start from zero.
  void run(const Call& call = {}) {
    engine::StepArena arena;
    fill_with_nan(arena, 200'000);
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape,
                  .mode = call.mode,
                  .param_grads = call.param_grads,
                  .seed = 7,
                  .step = call.step,
                  .sample_ids = call.ids};
    const auto images = static_cast<int64_t>(x.size()) / (kTokens * kWidth);
    const Shape shape{images, kTokens, kWidth};
    dx.assign(x.size(), 0);
    dresidual.assign(x.size(), 0);
    store.zero(Slab::kGrad);
    moe::Routing r;
    const Tensor out =
        layer.forward(f, tape.leaf(view(x, shape), view(dx, shape)),
                      tape.leaf(view(residual, shape), view(dresidual, shape)), call.random, r);
    CHECK(out.shape() == shape);
    y = f64_of(out);
    tape.backward(out, view(dy, shape));
    gates = f64_of(r.gates);
    weight = f64_of(r.weight);
    chosen = indices_of(r.chosen);
    expert = indices_of(r.expert);
    offset = indices_of(r.offset);
    routing = r;
  }
  naive::Vec grad(const std::string& path) {
    return f64_of(store.view(store.find(path), Slab::kGrad));
  }
  // One expert in plain loops.
  naive::Vec expert_of(int64_t e, const naive::Vec& in) {
    return naive_expert(params_of(store), e, kWidth, kHidden, in);
  }

  moe::MoeConfig config;
  moe::MoeLayer layer;
  engine::ParamStore store;
  std::vector<double> x, residual, dy, y, dx, dresidual;
  naive::Vec gates, weight;
  naive::Indices chosen, expert, offset;
  moe::Routing routing;  // its numbers; the tensors are gone with their arena
};

moe::MoeConfig with_capacity(moe::MoeConfig c, double factor, int64_t group_images = 0) {
  c.dispatch = moe::Dispatch::kCapacity;
  c.capacity_factor = factor;
  c.capacity_multiple_of = 1;
  c.group_images = group_images;
  return c;
}

}  // namespace

TEST_CASE("moe layer: what Routing says") {
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0.5});
  h.run();
  const moe::Routing& r = h.routing;
  CHECK(r.layer == 3);
  CHECK(r.images == kImages);
  CHECK(r.tokens == kTokens);
  CHECK(r.experts == 4);
  CHECK(r.top_k == 2);
  CHECK(r.sigma == 0.125);
  CHECK(r.capacity == 0);
  CHECK(r.dropped == 0);
  for (const Tensor* t : {&r.logits, &r.clean, &r.noisy_logits, &r.gates}) {
    CHECK(t->shape() == Shape{kN, 4});
  }
  for (const Tensor* t : {&r.chosen, &r.expert, &r.weight}) CHECK(t->shape() == Shape{kN, 2});
  CHECK(r.offset.shape() == Shape{5});
  CHECK(h.expert == h.chosen);
  for (int64_t c = 0; c < kN * 2; ++c) {
    CHECK(h.weight[c] == h.gates[c / 2 * 4 + h.chosen[c]]);  // as they are, not renormalised
    CHECK((c % 2 == 0 || h.weight[c] <= h.weight[c - 1]));
  }
  for (int64_t e = 0; e < 4; ++e) {
    CHECK(h.offset[e + 1] - h.offset[e] == std::count(h.expert.begin(), h.expert.end(), e));
  }
}

TEST_CASE("moe layer: the residual plus the weighted experts, K = E being the full mixture") {
  for (const int64_t k : {1, 2, 4}) {
    Harness h({.experts = 4, .top_k = k, .noise_std = 0.5});
    h.run();
    naive::Vec want = h.residual;
    for (int64_t e = 0; e < 4; ++e) {
      const naive::Vec out = h.expert_of(e, h.x);
      for (int64_t i = 0; i < kN * kWidth; ++i) {
        const auto first = h.chosen.begin() + i / kWidth * k;
        const bool takes_part = k == 4 || std::find(first, first + k, e) != first + k;
        if (takes_part) want[i] += h.gates[i / kWidth * 4 + e] * out[i];
      }
    }
    CHECK(error_of(h.y, want) <= 1e-13);
    CHECK(h.dresidual == h.dy);
  }
}

TEST_CASE("moe layer: one expert is the MLP") {
  Harness h({.experts = 1, .top_k = 1});
  h.run();
  naive::Vec want = h.expert_of(0, h.x);
  naive::add(want, h.residual);
  CHECK(h.weight == naive::Vec(kN, 1));
  CHECK(error_of(h.y, want) <= 1e-13);
  CHECK(h.grad("router.weight") == naive::Vec(kWidth, 0));
}

TEST_CASE("moe layer: gradient of tokens and residual by differences") {
  const Threads one(1);  // too small for more
  for (const int64_t k : {1, 2, 4}) {
    Harness h({.experts = 4, .top_k = k, .noise_std = 0.5});
    const std::vector<int64_t> ids = {0, 1, 2, 3};
    const auto f = [&](std::span<const Tensor> x) {
      nn::Forward forward{.tape = *x[0].tape(), .mode = nn::Mode::kTrain, .sample_ids = ids};
      moe::Routing r;
      return h.layer.forward(forward, x[0], x[1], {}, r);
    };
    const Shape shape{kImages, kTokens, kWidth};
    const auto report = gradcheck(f, {shape, shape});
    CHECK_MESSAGE(report.ok(), report);
  }
}

TEST_CASE("moe layer: a token whose choices were all dropped passes through the residual") {
  Harness h(with_capacity({.experts = 4, .top_k = 2, .noise_std = 0.5}, 0.3));
  h.run();
  CHECK(h.routing.capacity == 2);
  CHECK(h.routing.dropped == std::count(h.expert.begin(), h.expert.end(), -1));
  int64_t through = 0;
  for (int64_t n = 0; n < kN; ++n) {
    for (int64_t j = 0; j < 2; ++j) {
      CHECK((h.expert[n * 2 + j] == -1) == (h.weight[n * 2 + j] == 0));
      CHECK((h.expert[n * 2 + j] == -1 || h.expert[n * 2 + j] == h.chosen[n * 2 + j]));
    }
    if (h.expert[n * 2] >= 0 || h.expert[n * 2 + 1] >= 0) continue;
    ++through;
    const auto row = [n](const naive::Vec& v) { return naive::slice(v, n * kWidth, kWidth); };
    CHECK(row(h.y) == row(h.residual));
    CHECK(row(h.dx) == naive::Vec(kWidth, 0));
    CHECK(row(h.dresidual) == row(h.dy));
  }
  CHECK(through > 0);
  CHECK(through < kN);
}

TEST_CASE("moe layer: capacities of training and evaluation, and of groups") {
  moe::MoeConfig c = with_capacity({.experts = 4, .top_k = 2}, 1.0);
  const auto capacity = [](const moe::MoeConfig& config, nn::Mode mode) {
    Harness h(config);
    h.run({.mode = mode});
    return h.routing.capacity;
  };
  CHECK(capacity(c, nn::Mode::kTrain) == 6);  // 12 tokens, 2 choices, 4 experts
  CHECK(capacity(c, nn::Mode::kEval) == 0);   // dropless there
  c.eval_capacity_factor = 0.5;
  CHECK(capacity(c, nn::Mode::kTrain) == 6);
  CHECK(capacity(c, nn::Mode::kEval) == 3);
  c.group_images = 2;
  CHECK(capacity(c, nn::Mode::kTrain) == 3);
  c.capacity_multiple_of = 4;
  CHECK(capacity(c, nn::Mode::kTrain) == 4);
  c.dispatch = moe::Dispatch::kDropless;
  CHECK(capacity(c, nn::Mode::kTrain) == 0);
  CHECK(moe::group_tokens(c, 4, 3) == 6);
  c.group_images = 0;
  CHECK(moe::group_tokens(c, 4, 3) == 12);

  c = with_capacity(c, 1.0, 3);
  CHECK(caught([&] { capacity(c, nn::Mode::kTrain); }).is(ErrorKind::kValue, {"9", "12"}));
  CHECK_FALSE(caught([&] { capacity(c, nn::Mode::kEval); }).is(ErrorKind::kShape));
}

TEST_CASE("moe layer: enough capacity is dropless, the same bits") {
  const moe::MoeConfig c{.experts = 4, .top_k = 2};
  Harness free(c);
  free.run();
  for (const int64_t group : {0, 1, 2}) {
    Harness ample(with_capacity(c, 4, group));
    ample.run();
    CHECK(ample.routing.capacity > 0);
    CHECK(ample.routing.dropped == 0);
    CHECK(same_bytes(ample.y, free.y));
    CHECK(same_bytes(ample.dx, free.dx));
    CHECK(params_of(ample.store, Slab::kGrad) == params_of(free.store, Slab::kGrad));
  }
}

TEST_CASE("moe layer: an expert that nobody chose has exactly no gradient") {
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0});
  naive::Vec router = params_of(h.store).at("router.weight");
  for (size_t i = 0; i < h.x.size(); i += kWidth) h.x[i] = 1;
  router[2] = -100;
  set_param(h.store, "router.weight", router);
  h.run();
  CHECK(h.offset[2] == h.offset[3]);
  for (const char* path :
       {"experts.up.weight", "experts.up.bias", "experts.down.weight", "experts.down.bias"}) {
    const naive::Vec g = h.grad(path);
    const auto size = static_cast<int64_t>(g.size()) / 4;
    for (int64_t e = 0; e < 4; ++e) {
      const naive::Vec own = naive::slice(g, e * size, size);
      CHECK((own == naive::Vec(own.size(), 0)) == (e == 2));
    }
  }
}

TEST_CASE("moe layer: an all-zero router takes the first experts, with finite gradients") {
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0});
  set_param(h.store, "router.weight", naive::Vec(kWidth * 4, 0));
  h.run();
  for (int64_t c = 0; c < kN * 2; ++c) {
    CHECK(h.expert[c] == c % 2);
    CHECK(h.weight[c] == 0.25);
  }
  for (const double g : h.grad("router.weight")) CHECK(std::isfinite(g));
  for (const double g : h.dx) CHECK(std::isfinite(g));
}

// NaN router weights: every token still goes to K distinct experts, its output is NaN (the
// combine weights are), and the residual's gradient is untouched. Nothing crashes; the NaN
// reaches the loss, where the trainer stops.
TEST_CASE("moe layer: a NaN router gives NaN outputs and no crash") {
  for (const bool capacity : {false, true}) {
    moe::MoeConfig c{.experts = 4, .top_k = 2};
    Harness h(capacity ? with_capacity(c, 1) : c);
    set_param(h.store, "router.weight",
              naive::Vec(kWidth * 4, std::numeric_limits<double>::quiet_NaN()));
    h.run();
    for (int64_t n = 0; n < kN; ++n) {
      CHECK(h.chosen[n * 2] != h.chosen[n * 2 + 1]);
      CHECK(std::min(h.chosen[n * 2], h.chosen[n * 2 + 1]) >= 0);
      CHECK(std::max(h.chosen[n * 2], h.chosen[n * 2 + 1]) < 4);
      CHECK(std::isnan(h.y[n * kWidth]) == (h.expert[n * 2] >= 0 || h.expert[n * 2 + 1] >= 0));
    }
    CHECK(h.dresidual == h.dy);
  }
}

TEST_CASE("moe layer: parameters may be left alone, the tokens' gradient stays the same") {
  Harness h({.experts = 4, .top_k = 2});
  h.run();
  const auto dx = h.dx;
  CHECK(h.grad("router.weight") != naive::Vec(kWidth * 4, 0));
  h.run({.param_grads = false});
  CHECK(same_bytes(h.dx, dx));
  for (const auto& [name, grad] : params_of(h.store, Slab::kGrad)) {
    CHECK(grad == naive::Vec(grad.size(), 0));
  }
}

TEST_CASE("moe layer: another K at evaluation, of which the capacity knows") {
  moe::MoeConfig c = with_capacity({.experts = 4, .top_k = 2, .eval_top_k = 3}, 1);
  c.eval_capacity_factor = 1;
  Harness h(c);
  h.run();
  CHECK(h.routing.top_k == 2);
  CHECK(h.routing.capacity == 6);
  h.run({.mode = nn::Mode::kEval});
  CHECK(h.routing.top_k == 3);
  CHECK(h.routing.capacity == 9);  // 12 tokens, 3 choices, 4 experts
  CHECK(h.routing.chosen.shape() == Shape{kN, 3});
  CHECK(caught([] {
          moe::MoeConfig{.experts = 4, .eval_top_k = 5}.check();
        }).is(ErrorKind::kValue, {"eval_top_k"}));
}

TEST_CASE("moe layer: experts choose tokens") {
  moe::MoeConfig c{.experts = 4, .noise_std = 0.5};
  c.chooser = moe::Chooser::kExperts;
  c.capacity_factor = 1.5;
  c.capacity_multiple_of = 1;
  c.group_images = 2;
  Harness h(c);
  h.run();
  const moe::Routing& r = h.routing;
  CHECK(r.top_k == 4);
  CHECK(r.expert_choice);
  CHECK(r.capacity == 3);  // two images of 3 tokens, factor 1.5, 4 experts: 2.25
  CHECK(r.choices_per_token() == 1);
  naive::Vec want = h.residual;
  std::set<int64_t> degrees;
  for (int64_t e = 0; e < 4; ++e) {
    CHECK(h.offset[e + 1] - h.offset[e] == 2 * 3);
    const naive::Vec out = h.expert_of(e, h.x);
    for (int64_t i = 0; i < kN * kWidth; ++i) {
      const auto first = h.expert.begin() + i / kWidth * 4;
      if (std::find(first, first + 4, e) != first + 4) {
        want[i] += h.gates[i / kWidth * 4 + e] * out[i];
      }
    }
  }
  CHECK(error_of(h.y, want) <= 1e-13);
  for (int64_t n = 0; n < kN; ++n) {
    degrees.insert(std::count_if(h.expert.begin() + n * 4, h.expert.begin() + n * 4 + 4,
                                 [](int64_t e) { return e >= 0; }));
  }
  CHECK(degrees.size() > 1);
  // At evaluation an image is a group, so that it is alone in its choice; with a factor of its own
  // the groups are those of training.
  h.run({.mode = nn::Mode::kEval});
  CHECK(h.routing.capacity == 2);
  c.eval_capacity_factor = 1;
  Harness groups(c);
  groups.run({.mode = nn::Mode::kEval});
  CHECK(groups.routing.capacity == 2);  // of six tokens
  CHECK(groups.offset.back() == 2 * 4 * 2);
  CHECK(h.offset.back() == 4 * 4 * 2);
  CHECK(c.mixes_images_at_evaluation());
  // The largest factor: every expert takes all.
  c.capacity_factor = 100;
  Harness full(c);
  full.run();
  CHECK(full.routing.capacity == 6);
  CHECK(full.routing.dropped == 0);
  Harness mixture({.experts = 4, .top_k = 4, .noise_std = 0.5});
  mixture.run();
  CHECK(error_of(full.y, mixture.y) <= 1e-13);
  CHECK(error_of(full.grad("router.weight"), mixture.grad("router.weight")) <= 1e-12);
}

TEST_CASE("moe layer: bf16 on the way into the experts and out of them") {
  const auto rounded = [](naive::Vec v) {
    for (double& x : v) x = engine::to_float(engine::to_bf16(static_cast<float>(x)));
    return v;
  };
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0.5, .bf16_dispatch = true});
  h.run();
  naive::Vec want = h.residual;
  for (int64_t e = 0; e < 4; ++e) {
    const naive::Vec out = rounded(h.expert_of(e, rounded(h.x)));
    for (int64_t i = 0; i < kN * kWidth; ++i) {
      const auto first = h.chosen.begin() + i / kWidth * 2;
      if (std::find(first, first + 2, e) != first + 2) {
        want[i] += h.gates[i / kWidth * 4 + e] * out[i];
      }
    }
  }
  CHECK(error_of(h.y, want) <= 1e-13);
  Harness exact({.experts = 4, .top_k = 2, .noise_std = 0.5});
  exact.run();
  CHECK(exact.gates == h.gates);  // the router sees the tokens as they are
  CHECK(error_of(h.y, exact.y) > 1e-5);
  CHECK(error_of(h.y, exact.y) < 1e-2);
  CHECK(error_of(h.dx, exact.dx) > 1e-5);
  CHECK(error_of(h.dx, exact.dx) < 2e-2);
}

TEST_CASE("moe layer: a dropout mask of slots is the same for all experts") {
  moe::MoeConfig c{.experts = 4, .top_k = 2, .noise_std = 0.5, .expert_dropout = 0.5};
  c.dropout_mask = moe::DropoutMask::kSlot;
  // An expert's output is its mask: no hidden layer, and a bias of 1.
  const auto outputs = [](Harness& h) {
    set_param(h.store, "experts.down.weight", naive::Vec(4 * kHidden * kWidth, 0));
    set_param(h.store, "experts.down.bias", naive::Vec(4 * kWidth, 1));
    h.residual.assign(h.residual.size(), 0);
    h.run();
    return h.y;
  };
  Harness h(c);
  const naive::Vec y = outputs(h);
  // An element of a token's row is one of the four sums that two masks of 0 or 2 allow; which of
  // them must be a function of the two slots' places in their experts.
  std::vector<int64_t> place(kN * 2, 0), next(4, 0);
  for (int64_t i = 0; i < kN * 2; ++i) place[i] = next[h.expert[i]]++;
  CHECK(*std::max_element(next.begin(), next.end()) > 1);
  std::map<std::pair<int64_t, int64_t>, int> seen;  // (place, element) -> is it kept?
  for (int64_t n = 0; n < kN; ++n) {
    const double a = h.weight[n * 2], b = h.weight[n * 2 + 1];
    for (int64_t i = 0; i < kWidth; ++i) {
      int found = -1;
      for (int mask = 0; mask < 4; ++mask) {
        const double sum = 2 * a * (mask & 1) + 2 * b * (mask >> 1);
        if (std::abs(sum - y[n * kWidth + i]) < 1e-12) found = mask;
      }
      REQUIRE(found >= 0);
      for (int j = 0; j < 2; ++j) {
        const int kept = (found >> j) & 1;
        const auto [at, is_new] = seen.try_emplace({place[n * 2 + j], i}, kept);
        CHECK((is_new || at->second == kept));
      }
    }
  }
  c.dropout_mask = moe::DropoutMask::kToken;
  Harness by_token(c);
  CHECK(outputs(by_token) != y);
}

TEST_CASE("moe layer: masks that a caller brings act after GELU and on the output") {
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0});
  h.run();
  const naive::Vec plain = h.y;
  std::vector<double> hidden(kN * 2 * kHidden, 1), output(kN * 2 * kWidth, 1);
  const moe::RoutingRandom random{.noise = {},
                                  .hidden_dropout = view(hidden, {kN * 2, kHidden}),
                                  .output_dropout = view(output, {kN * 2, kWidth})};
  h.run({.random = random});
  CHECK(same_bytes(h.y, plain));
  // Choice 1 of token 4 without its hidden units: the bias of the second layer is left.
  const int64_t choice = 4 * 2 + 1;
  std::fill_n(hidden.begin() + choice * kHidden, kHidden, 0.0);
  h.run({.random = random});
  const naive::Vec bias = params_of(h.store).at("experts.down.bias");
  const naive::Vec full = h.expert_of(h.expert[choice], naive::slice(h.x, 4 * kWidth, kWidth));
  for (int64_t i = 0; i < kN * kWidth; ++i) {
    double want = plain[i];
    if (i / kWidth == 4) {
      want += h.weight[choice] * (bias[h.expert[choice] * kWidth + i % kWidth] - full[i % kWidth]);
    }
    CHECK(std::abs(h.y[i] - want) <= 1e-13);
  }
  // Output 2 of that choice doubled.
  std::fill(hidden.begin(), hidden.end(), 1.0);
  output[choice * kWidth + 2] = 2;
  h.run({.random = random});
  for (int64_t i = 0; i < kN * kWidth; ++i) {
    const double more = i == 4 * kWidth + 2 ? h.weight[choice] * full[2] : 0;
    CHECK(std::abs(h.y[i] - plain[i] - more) <= 1e-13);
  }
  h.run({.mode = nn::Mode::kEval, .random = random});
  CHECK(same_bytes(h.y, plain));
}

namespace {

// A layer of one expert that shows its masks: with `hidden` the product of both, else that of
// the output alone. y - residual is then 0 or the multiplier.
Harness mask_of(double rate, bool hidden, int64_t images, int64_t block = 3) {
  Harness h({.experts = 1, .top_k = 1, .noise_std = 0, .expert_dropout = rate}, kWidth, block);
  const double gelu1 = naive::gelu(naive::Gelu::kTanh, 1);
  naive::Vec identity(kWidth * kWidth, 0);
  for (int64_t i = 0; i < kWidth && hidden; ++i) identity[i * (kWidth + 1)] = 1 / gelu1;
  set_params(h.store, {{"router.weight", naive::Vec(kWidth, 0)},
                       {"experts.up.weight", naive::Vec(kWidth * kWidth, 0)},
                       {"experts.up.bias", naive::Vec(kWidth, 1)},
                       {"experts.down.weight", identity},
                       {"experts.down.bias", naive::Vec(kWidth, hidden ? 0 : 1)}});
  h.x.assign(images * kTokens * kWidth, 0.5);
  h.residual.assign(h.x.size(), 0);
  h.dy.assign(h.x.size(), 0);
  return h;
}

std::vector<int64_t> ids_of(int64_t count) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(i);
  return ids;
}

}  // namespace

TEST_CASE("expert dropout: rate and scale of both masks") {
  const int64_t images = 600;
  for (const double rate : {0.2, 0.5}) {
    for (const bool both : {false, true}) {
      Harness h = mask_of(rate, both, images);
      h.run({.ids = ids_of(images)});
      const double keep = both ? (1 - rate) * (1 - rate) : 1 - rate;  // the two are independent
      double kept = 0;
      bool right = true;
      for (const double v : h.y) {
        right &= v == 0 || std::abs(v * keep - 1) <= 1e-12;
        kept += v != 0 ? 1 : 0;
      }
      CHECK(right);
      const auto n = static_cast<double>(h.y.size());
      CHECK(std::abs(kept / n - keep) <= 5 * std::sqrt(keep * (1 - keep) / n));
      h.run({.mode = nn::Mode::kEval, .ids = ids_of(images)});
      for (const double v : h.y) right &= std::abs(v - 1) <= 1e-12;
      CHECK(right);
    }
  }
}

TEST_CASE("expert dropout: masks follow the sample and its token, not the slot") {
  const auto masks = [](const std::vector<int64_t>& ids, int64_t step = 0, int64_t block = 3) {
    Harness h = mask_of(0.5, false, static_cast<int64_t>(ids.size()), block);
    h.run({.ids = ids, .step = step});
    return h.y;
  };
  constexpr int64_t kRow = kTokens * kWidth;
  const naive::Vec all = masks({0, 1, 2, 3, 4});
  CHECK(masks({3}) == naive::slice(all, 3 * kRow, kRow));
  CHECK(naive::slice(masks({9, 4, 2}), kRow, kRow) == naive::slice(all, 4 * kRow, kRow));
  std::set<naive::Vec> distinct;
  for (int64_t i = 0; i < 5; ++i) distinct.insert(naive::slice(all, i * kRow, kRow));
  distinct.insert(masks({0}, 1));
  distinct.insert(masks({0}, 0, 4));
  CHECK(distinct.size() == 7);

  // Four experts and drops: who else is there decides the slot, and must not decide the mask.
  moe::MoeConfig c = {.experts = 4, .top_k = 2, .noise_std = 0, .expert_dropout = 0.5};
  Harness many(c), one(c);
  many.run();
  for (int64_t b = 0; b < kImages; ++b) {
    one.x = naive::slice(many.x, b * kRow, kRow);
    one.residual = naive::slice(many.residual, b * kRow, kRow);
    one.dy = naive::slice(many.dy, b * kRow, kRow);
    one.run({.ids = {b}});
    CHECK(one.y == naive::slice(many.y, b * kRow, kRow));
    CHECK(one.dx == naive::slice(many.dx, b * kRow, kRow));
  }
}

TEST_CASE("expert dropout: the two choices of a token have masks of their own") {
  // Two experts that return ones, gates 1/2 each: y is the mean of the two masks.
  Harness h({.experts = 2, .top_k = 2, .noise_std = 0, .expert_dropout = 0.5});
  set_params(h.store, {{"router.weight", naive::Vec(kWidth * 2, 0)},
                       {"experts.down.weight", naive::Vec(2 * kHidden * kWidth, 0)},
                       {"experts.down.bias", naive::Vec(2 * kWidth, 1)}});
  h.residual.assign(h.residual.size(), 0);
  h.run();
  for (const double sum : {0.0, 1.0, 2.0}) {
    CHECK(std::count(h.y.begin(), h.y.end(), sum) > 5);
  }
}

TEST_CASE("expert dropout: needs one sample id an image, as the noise does") {
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0, .expert_dropout = 0.5});
  Call call;
  call.ids.reserve(8);
  call.ids = {0, 1};  // of four images
  CHECK(caught([&] { h.run(call); }).is(ErrorKind::kValue));
  call.mode = nn::Mode::kEval;
  CHECK_FALSE(caught([&] { h.run(call); }).kind);
}

TEST_CASE("expert dropout: masks that a caller brings must have a row for every choice") {
  Harness h({.experts = 4, .top_k = 2, .noise_std = 0});
  const std::vector<double> ones(kN * 2 * kHidden, 1);
  const Tensor all = view(ones, {kN * 2, kHidden});
  Call call;
  call.random.hidden_dropout = all.rows(0, kN);
  CHECK(caught([&] { h.run(call); }).is(ErrorKind::kShape));
  call.random.hidden_dropout = all.viewed({kN * kHidden, 2});
  CHECK(caught([&] { h.run(call); }).is(ErrorKind::kShape));
}

TEST_CASE("moe config: refuses sizes that make no sense, and says which") {
  const auto refuses = [](void (*change)(moe::MoeConfig&), const char* key) {
    moe::MoeConfig c;
    CHECK_FALSE(caught([&] { c.check(); }).kind);
    change(c);
    return caught([&] { c.check(); }).is(ErrorKind::kValue, {key});
  };
  CHECK(refuses([](moe::MoeConfig& c) { c.experts = 0; }, "moe.experts"));
  CHECK(refuses([](moe::MoeConfig& c) { c.top_k = 0; }, "moe.top_k"));
  CHECK(refuses([](moe::MoeConfig& c) { c.top_k = 9; }, "moe.top_k"));
  CHECK(refuses([](moe::MoeConfig& c) { c.noise_std = -1; }, "moe.noise_std"));
  CHECK(refuses([](moe::MoeConfig& c) { c.noise_std = NAN; }, "moe.noise_std"));
  CHECK(refuses([](moe::MoeConfig& c) { c.expert_dropout = 1; }, "moe.expert_dropout"));
  CHECK(refuses([](moe::MoeConfig& c) { c.expert_dropout = -0.1; }, "moe.expert_dropout"));
  CHECK(refuses([](moe::MoeConfig& c) { c.capacity_multiple_of = 0; }, "multiple_of"));
}

TEST_CASE("moe config: a capacity of nothing is an error, not dropless") {
  for (const double factor : {0.0, -1.0}) {
    const moe::MoeConfig c = with_capacity({}, factor);
    CHECK(caught([&] { c.check(); }).is(ErrorKind::kValue, {"capacity_factor"}));
  }
}

TEST_CASE("experts: identical at the start if wanted, else each with its own numbers") {
  for (const bool identical : {false, true}) {
    const moe::MoeConfig c{.experts = 4, .top_k = 2, .identical_experts = identical};
    moe::MoeLayer layer(0, kWidth, kHidden, c, GeluForm::kTanh);
    engine::ParamStore store;
    nn::Binder(store, 1, true).bind(layer, Dtype::kF64);
    const naive::Params params = params_of(store);
    CHECK(params.size() == 5);
    for (const auto& [name, v] : params) {
      if (name == "router.weight") continue;
      const auto size = static_cast<int64_t>(v.size()) / 4;
      std::set<naive::Vec> distinct;
      for (int64_t e = 0; e < 4; ++e) distinct.insert(naive::slice(v, e * size, size));
      CHECK(distinct.size() == (identical ? 1 : 4));
      double largest = 0;
      for (const double w : v) largest = std::max(largest, std::abs(w));
      const bool kernel = name.ends_with("weight");
      CHECK(largest <= (kernel ? std::sqrt(6.0 / (kWidth + kHidden)) : 5e-6));
      CHECK(largest > (kernel ? 0.9 * std::sqrt(6.0 / (kWidth + kHidden)) : 1e-7));
      CHECK(store.find(name).decay == kernel);
    }
    // The first expert's numbers do not depend on the option.
    const moe::MoeConfig one{.experts = 1, .top_k = 1};
    moe::MoeLayer single(0, kWidth, kHidden, one, GeluForm::kTanh);
    engine::ParamStore alone;
    nn::Binder(alone, 1, true).bind(single, Dtype::kF64);
    CHECK(naive::slice(params.at("experts.up.weight"), 0, kWidth * kHidden) ==
          params_of(alone).at("experts.up.weight"));
  }
}
