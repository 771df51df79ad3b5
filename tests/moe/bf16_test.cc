#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "moe/moe_layer.h"
#include "tests/support/bits.h"
#include "tests/support/model_fixture.h"

// What rounding to bf16 may touch and what it may not.
using namespace engine::test;
using engine::Precision;

namespace {

// |a - b| / |b| over all tensors.
double distance_of(const naive::Params& a, const naive::Params& b) {
  double difference = 0, norm = 0;
  for (const auto& [path, v] : b) {
    for (size_t i = 0; i < v.size(); ++i) {
      difference += std::pow(a.at(path)[i] - v[i], 2);
      norm += v[i] * v[i];
    }
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("bf16: a router and its choices are f32's to the bit") {
  constexpr int64_t kWidth = 42, kTokens = 50;
  moe::MoeConfig c;
  c.experts = 8;
  moe::Router router(kWidth, c);
  engine::ParamStore store;
  nn::Binder(store, 1, true).bind(router, engine::Dtype::kF32);
  const auto x = values<float>(kTokens * kWidth, 5);
  const std::vector<int64_t> ids = {0};
  const auto routed = [&](Precision precision) {
    engine::StepArena arena;
    engine::Tape tape(arena);
    nn::Forward f{
        .tape = tape, .mode = nn::Mode::kTrain, .precision = precision, .sample_ids = ids};
    moe::Routing r;
    r.images = 1;
    r.tokens = kTokens;
    r.experts = c.experts;
    r.top_k = 2;
    router.forward(f, tape.input(view(x, {kTokens, kWidth})), {}, r);
    auto all = copy_of<float>(r.logits);
    const auto gates = copy_of<float>(r.gates);
    all.insert(all.end(), gates.begin(), gates.end());
    return all;
  };
  CHECK(same_bytes(routed(Precision::kBf16), routed(Precision::kF32)));
}

// All experts serve every token, so that no choice can change with the rounding.
TEST_CASE("bf16: the gradient of a whole model is within 1e-2 of f32's") {
  moe::VmoeConfig c = small_vmoe(4, 4);
  c.vit.width = 48;
  c.vit.mlp = 64;
  const auto step = [&](Precision precision) {
    c.precision = precision;
    Bound<moe::Vmoe> bound(c, engine::Dtype::kF32);
    // Near a fresh model, whose activations stay of the order of 1; but its head is zero.
    for (const auto& [path, fresh] : params_of(bound.store)) {
      naive::Vec v = values<double>(static_cast<int64_t>(fresh.size()), 3, 0.1);
      for (size_t i = 0; i < v.size(); ++i) v[i] += fresh[i];
      set_param(bound.store, path, v);
    }
    return run_step(bound, random_batch<float>(c, 16),
                    {.importance = 0.7, .load = 0, .prc = moe::PrcForm::kPaper});
  };
  const Step exact = step(Precision::kF32), rounded = step(Precision::kBf16);
  const double gradient = distance_of(rounded.grads, exact.grads);
  CAPTURE(gradient);
  CHECK(gradient < 1e-2);
  CHECK(gradient > 1e-5);
  CHECK(error_of(rounded.logits, exact.logits) < 2e-2);
  CHECK(std::abs(rounded.total - exact.total) < 1e-2 * std::abs(exact.total));
}
