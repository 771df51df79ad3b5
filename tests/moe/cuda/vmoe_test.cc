#include "tests/moe/cuda/whole_model.h"

// Whole models on both devices. Choices are the CPU's: of two experts that are nearly equal
// rounding would take either, and from there on the devices would compute different things.
using namespace engine::test;
using engine::Device;
using engine::Precision;

namespace {

// Within `bound` of the CPU in f32 in the L2 norm, and farther than nothing where the device
// rounds.
void check_close(const Pass& got, const Pass& want, Precision precision, double bound) {
  CAPTURE(static_cast<int>(precision));
  CHECK(distance_of(got.logits, want.logits) < bound);
  CHECK(distance_of(got.gradient, want.gradient) < bound);
  CHECK(distance_of(got.images, want.images) < bound);
  if (precision != Precision::kF32) CHECK(distance_of(got.gradient, want.gradient) > 1e-5);
}

struct Bound {
  Precision precision;
  double bound;
};
// f32 differs in the order of sums; tf32 rounds operands to 11 bits, bf16 all activations to 8.
constexpr Bound kBounds[] = {
    {Precision::kF32, 1e-4}, {Precision::kTf32, 1e-2}, {Precision::kBf16, 5e-2}};

}  // namespace

TEST_CASE("cuda: a model's logits and gradients are the CPU's in f32, tf32 and bf16" *
          doctest::skip(!cuda_available())) {
  for (const int64_t width : {12, 48}) {
    const moe::VmoeConfig c = config_of(width);
    const Pass want = pass(Device::kCpu, c, Precision::kF32);
    for (const auto& [precision, bound] : kBounds) {
      check_close(pass(Device::kCuda, c, precision), want, precision, bound);
    }
  }
}

TEST_CASE("cuda: a sparse model on the CPU's choices, in f32, tf32 and bf16" *
          doctest::skip(!cuda_available())) {
  for (const int64_t top_k : {1, 2}) {
    const moe::VmoeConfig c = config_of(24, top_k);
    const Choices choices = pass(Device::kCpu, c, Precision::kF32).choices;
    REQUIRE(choices.chosen.size() == c.moe_layers.size());
    const Pass want = pass(Device::kCpu, c, Precision::kF32, &choices);
    for (const auto& [precision, bound] : kBounds) {
      const Pass got = pass(Device::kCuda, c, precision, &choices);
      check_close(got, want, precision, bound);
      CHECK(got.choices.chosen == choices.chosen);
    }
    // Other choices make another model: what is compared depends on them.
    Choices others = choices;
    for (int32_t& e : others.chosen[0]) e = (e + 1) % 4;
    CHECK(distance_of(pass(Device::kCuda, c, Precision::kF32, &others).gradient, want.gradient) >
          0.1);
  }
}
