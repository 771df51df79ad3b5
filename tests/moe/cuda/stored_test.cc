#include "tests/moe/cuda/whole_model.h"

// Whole models in bf16, whose activations a GPU stores in bf16, against the CPU, which stores f32.
using namespace engine::test;
using engine::Device;
using engine::Dtype;
using engine::Precision;

namespace {

void check_model(const moe::VmoeConfig& c) {
  const Pass exact = pass(Device::kCpu, c, Precision::kF32),
             cpu = pass(Device::kCpu, c, Precision::kBf16),
             gpu = pass(Device::kCuda, c, Precision::kBf16),
             again = pass(Device::kCuda, c, Precision::kBf16);
  for (const Dtype dtype : gpu.dtypes) CHECK(dtype == Dtype::kF32);
  CHECK(gpu.not_finite.empty());
  const auto close = [](const naive::Vec& got, const naive::Vec& want, const naive::Vec& f32) {
    // A rounding is by up to 2^-8 of a number; what the independent ones of three blocks' dozen
    // tensors leave is about what rounding the products' operands alone does, 1e-2 to 2e-2. A
    // gradient that lacks a term is off by several tenths.
    const double error = distance_of(got, want), products = distance_of(want, f32);
    CAPTURE(error);
    CAPTURE(products);
    CHECK(error < 5e-2);
    CHECK(distance_of(got, f32) < 5e-2);
    CHECK(products > 1e-5);
    CHECK(error > 1e-5);
  };
  close(gpu.logits, cpu.logits, exact.logits);
  close(gpu.gradient, cpu.gradient, exact.gradient);
  close(gpu.images, cpu.images, exact.images);
  for (size_t l = 0; l < gpu.gates.size(); ++l) CHECK(error_of(gpu.gates[l], cpu.gates[l]) < 2e-2);
  CHECK(gpu.logits == again.logits);
  CHECK(gpu.gradient == again.gradient);
}

}  // namespace

TEST_CASE("cuda: a model stored in bf16 is the CPU's in bf16" * doctest::skip(!cuda_available())) {
  for (const int64_t width : {12, 48}) {
    CAPTURE(width);
    const moe::VmoeConfig c = config_of(width);
    check_model(c);
    CHECK(pass(Device::kCuda, c, Precision::kBf16).outputs == Dtype::kBF16);
    CHECK(pass(Device::kCuda, c, Precision::kF32).outputs == Dtype::kF32);
  }
}

TEST_CASE("cuda: every option of a model stored in bf16" * doctest::skip(!cuda_available())) {
  moe::VmoeConfig c = config_of(24);
  SUBCASE("dropout, dispatch in bf16, stochastic depth") {
    c.moe.expert_dropout = 0.2;
    c.moe.bf16_dispatch = true;
    c.stochastic_depth = 0.3;
  }
  SUBCASE("mean of tokens, pre-logits") {
    c.vit.pool = nn::Pool::kMean;
    c.vit.pre_logits = true;
    c.vit.gelu = engine::GeluForm::kErf;
  }
  SUBCASE("Soft MoE") {
    c.moe.chooser = moe::Chooser::kSoft;
    c.moe.capacity_factor = 2;
    c.moe.bf16_dispatch = true;
  }
  SUBCASE("no experts") { c.moe_layers.clear(); }
  check_model(c);
}
