#include "moe/soft_moe.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/moe/naive_expert.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::Dtype;
using engine::ErrorKind;
using engine::GeluForm;
using engine::Shape;
using engine::Tensor;

namespace {

constexpr int64_t kImages = 3, kTokens = 5, kWidth = 6, kHidden = 9, kExperts = 3, kSlots = 2;
constexpr int64_t kAll = kExperts * kSlots;

moe::MoeConfig soft(double noise_std = 0) {
  return {.experts = kExperts,
          .top_k = 2,
          .chooser = moe::Chooser::kSoft,
          .noise_std = noise_std,
          .capacity_factor = 1.2};
}

// A layer in f64 with random parameters and its tokens.
struct Harness {
  explicit Harness(const moe::MoeConfig& config)
      : layer(3, kWidth, kHidden, kTokens, config, GeluForm::kTanh) {
    nn::Binder(store, 1, true).bind(layer, Dtype::kF64);
    randomise(store);
    set_param(store, "router.scale", {3.5});
  }

  void run(nn::Mode mode, const moe::RoutingRandom& random = {},
           const std::vector<int64_t>& ids = {0, 1, 2}) {
    engine::StepArena arena;
    fill_with_nan(arena, 200'000);
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape, .mode = mode, .seed = 7, .step = 4, .sample_ids = ids};
    const Shape shape{static_cast<int64_t>(ids.size()), kTokens, kWidth};
    moe::Routing r;
    const Tensor out =
        layer.forward(f, tape.input(view(x, shape)), tape.input(view(residual, shape)), random, r);
    CHECK(out.shape() == shape);
    y = f64_of(out);
    clean = f64_of(r.clean);
    logits = f64_of(r.logits);
    chosen = indices_of(r.chosen);
    offset = indices_of(r.offset);
    routing = r;
  }

  // The same in plain loops; noise (images, tokens, slots) is added to the logits. Also the
  // experts' parts of each token.
  naive::Vec by_loops(const naive::Vec& noise, naive::Vec& parts) const {
    const naive::Params p = params_of(store);
    const naive::Vec &mu = p.at("router.slots"), &scale = p.at("router.scale");
    const auto unit_dot = [&](const double* a, const double* b) {
      double dot = 0, aa = 1e-6, bb = 1e-6;
      for (int64_t c = 0; c < kWidth; ++c) {
        dot += a[c] * b[c];
        aa += a[c] * a[c];
        bb += b[c] * b[c];
      }
      return dot / std::sqrt(aa * bb);
    };
    naive::Vec out = residual;
    parts.assign(static_cast<size_t>(kImages * kTokens * kExperts), 0);
    for (int64_t b = 0; b < kImages; ++b) {
      double e[kTokens][kAll], by_slot[kAll] = {}, by_token[kTokens] = {};
      for (int64_t t = 0; t < kTokens; ++t) {
        for (int64_t s = 0; s < kAll; ++s) {
          const int64_t at = (b * kTokens + t) * kAll + s;
          e[t][s] = std::exp(scale[0] * unit_dot(&x[(b * kTokens + t) * kWidth], &mu[s * kWidth]) +
                             (noise.empty() ? 0 : noise[at]));
          by_slot[s] += e[t][s];
          by_token[t] += e[t][s];
        }
      }
      for (int64_t s = 0; s < kAll; ++s) {
        naive::Vec in(kWidth, 0);
        for (int64_t t = 0; t < kTokens; ++t) {
          for (int64_t c = 0; c < kWidth; ++c) {
            in[c] += e[t][s] / by_slot[s] * x[(b * kTokens + t) * kWidth + c];
          }
        }
        const naive::Vec of_expert = naive_expert(p, s / kSlots, kWidth, kHidden, in);
        for (int64_t t = 0; t < kTokens; ++t) {
          const double weight = e[t][s] / by_token[t];
          parts[(b * kTokens + t) * kExperts + s / kSlots] += weight;
          for (int64_t c = 0; c < kWidth; ++c) {
            out[(b * kTokens + t) * kWidth + c] += weight * of_expert[c];
          }
        }
      }
    }
    return out;
  }

  moe::SoftMoeLayer layer;
  engine::ParamStore store;
  std::vector<double> x = values<double>(kImages * kTokens * kWidth, 21);
  std::vector<double> residual = values<double>(kImages * kTokens * kWidth, 22);
  std::vector<double> y;
  naive::Vec clean, logits;
  naive::Indices chosen, offset;
  moe::Routing routing;  // its numbers; the tensors are gone with their arena
};

}  // namespace

TEST_CASE("soft moe: slots are rounded, halves to even") {
  moe::MoeConfig c = soft();
  CHECK(moe::soft_slots(c, kTokens) == kSlots);
  c.experts = 4;
  c.capacity_factor = 1;
  CHECK(moe::soft_slots(c, 6) == 2);
  CHECK(moe::soft_slots(c, 10) == 2);
  CHECK(moe::soft_slots(c, 14) == 4);
  CHECK(caught([&] {
          moe::soft_slots(c, 2);
        }).is(ErrorKind::kValue, {"4 experts have no slots for 2 tokens"}));
}

TEST_CASE("soft moe: equals plain loops, without noise and with") {
  Harness h(soft(0.6));
  naive::Vec parts;
  const naive::Vec want = h.by_loops({}, parts);
  h.run(nn::Mode::kEval);
  CHECK(error_of(h.y, want) <= 1e-13);
  CHECK(error_of(h.clean, parts) <= 1e-13);
  CHECK(h.routing.sigma == 0);

  const std::vector<double> noise = values<double>(kImages * kTokens * kAll, 5, 2);
  naive::Vec scaled(noise.begin(), noise.end());
  for (double& v : scaled) v *= 0.6 / kExperts;
  h.run(nn::Mode::kTrain, {.noise = view(noise, {kImages * kTokens, kAll}),
                           .hidden_dropout = {},
                           .output_dropout = {}});
  CHECK(error_of(h.y, h.by_loops(scaled, parts)) <= 1e-13);
  CHECK(error_of(h.y, want) > 1e-3);
  CHECK(h.routing.sigma == doctest::Approx(0.2));
}

TEST_CASE("soft moe: what Routing says") {
  Harness h(soft());
  h.run(nn::Mode::kTrain);
  CHECK(h.routing.soft);
  CHECK(h.routing.top_k == 2);
  CHECK(h.routing.dropped == 0);
  CHECK(h.offset == naive::Indices{0, 6, 12, 18});
  for (int64_t n = 0; n < kImages * kTokens; ++n) {
    double sum = 0;
    for (int64_t e = 0; e < kExperts; ++e) {
      sum += h.clean[n * kExperts + e];
      CHECK(h.logits[n * kExperts + e] == std::log(h.clean[n * kExperts + e]));
      CHECK(h.clean[n * kExperts + h.chosen[n * 2]] >= h.clean[n * kExperts + e]);
    }
    CHECK(sum == doctest::Approx(1));
  }
}

// Those of the parameters are compared with PyTorch's in tests/train/golden_vmoe_test.cc.
TEST_CASE("soft moe: gradient of tokens and residual") {
  moe::MoeConfig c = soft(0.5);
  c.expert_dropout = 0.3;
  const Harness h(c);
  const std::vector<int64_t> ids = {0, 1, 2};
  const auto layer = [&](std::span<const Tensor> in) {
    nn::Forward forward{
        .tape = *in[0].tape(), .mode = nn::Mode::kTrain, .seed = 7, .sample_ids = ids};
    moe::Routing r;
    return h.layer.forward(forward, in[0], in[1], {}, r);
  };
  const Shape tokens{kImages, kTokens, kWidth};
  const auto report = gradcheck(layer, {tokens, tokens});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("soft moe: an image has the same bits alone, noise and dropout follow it") {
  moe::MoeConfig c = soft(0.5);
  c.expert_dropout = 0.3;
  for (const nn::Mode mode : {nn::Mode::kEval, nn::Mode::kTrain}) {
    Harness h(c);
    h.run(mode);
    const std::vector<double> all = h.y;
    constexpr int64_t kImage = kTokens * kWidth;
    for (int64_t b = 0; b < kImages; ++b) {
      Harness alone(c);
      alone.x = {h.x.begin() + b * kImage, h.x.begin() + (b + 1) * kImage};
      alone.residual = {h.residual.begin() + b * kImage, h.residual.begin() + (b + 1) * kImage};
      alone.run(mode, {}, {b});
      CHECK(same_bytes(alone.y, {all.begin() + b * kImage, all.begin() + (b + 1) * kImage}));
    }
  }
}

TEST_CASE("soft moe: bf16 on the way into the slots and out of the experts") {
  moe::MoeConfig c = soft();
  Harness exact(c);
  exact.run(nn::Mode::kEval);
  c.bf16_dispatch = true;
  Harness h(c);
  h.run(nn::Mode::kEval);
  CHECK(h.clean == exact.clean);
  CHECK(error_of(h.y, exact.y) > 1e-5);
  CHECK(error_of(h.y, exact.y) < 1e-2);
}

TEST_CASE("soft moe: the parameters belong to a number of tokens") {
  moe::SoftMoeLayer layer(0, kWidth, kHidden, 2 * kTokens, soft(), GeluForm::kTanh);
  engine::ParamStore store;
  nn::Binder(store, 1, true).bind(layer, Dtype::kF64);
  const auto x = values<double>(kTokens * kWidth, 1);
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape};
  moe::Routing r;
  const Tensor in = tape.input(view(x, {1, kTokens, kWidth}));
  CHECK(caught([&] {
          layer.forward(f, in, in, {}, r);
        }).is(ErrorKind::kShape, {"soft moe", "12 slots", "5 tokens"}));
}
