#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "moe/vmoe.h"
#include "tests/support/devices.h"
#include "tests/support/model_fixture.h"

// Whole models in bf16, whose activations a GPU stores in bf16, against the CPU, which stores f32.
using namespace engine::test;
using engine::Buffer;
using engine::Device;
using engine::Dtype;
using engine::Precision;
using engine::Shape;
using engine::Slab;
using engine::Tensor;

namespace {

constexpr int64_t kImages = 6;

// Sizes that 16-byte accesses fit, and that they do not.
moe::VmoeConfig config_of(int64_t width) {
  moe::VmoeConfig c = small_vmoe(4, 4);  // all experts serve every token: no choice can change
  c.vit.width = width;
  c.vit.mlp = 2 * width + 4;
  return c;
}

struct Pass {
  naive::Vec logits, gradient, images;  // of all parameters, and of the images
  std::vector<Dtype> dtypes;            // of what the routers left, and of the logits
  std::vector<naive::Vec> gates;
  Dtype outputs = Dtype::kI32;  // of the experts, on the device
  std::string not_finite;
};

Pass pass(Device device, const moe::VmoeConfig& c, Precision precision) {
  moe::Vmoe model(c);
  engine::ParamStore host, store;
  nn::Binder(host, 1, false).bind(model, Dtype::kF32);
  // Near a fresh model, whose activations stay of the order of 1; but its head is zero.
  uint64_t seed = 3;
  for (const auto& [path, fresh] : params_of(host)) {
    naive::Vec v = values<double>(static_cast<int64_t>(fresh.size()), seed++, 0.1);
    for (size_t i = 0; i < v.size(); ++i) v[i] += fresh[i];
    set_param(host, path, v);
  }
  nn::Binder(store, 1, true).bind(model, Dtype::kF32, device);
  const Tensor from = host.slab(Slab::kValue);
  engine::device_copy(device, store.slab(Slab::kValue).raw(), Device::kCpu, from.raw(),
                      from.bytes());
  const Batch<float> batch = random_batch<float>(c, kImages);
  const Shape shape{kImages, c.vit.channels, c.vit.image_size, c.vit.image_size};
  const Buffer images = upload(batch.images, shape, device);
  const Buffer dimages = upload(std::vector<float>(batch.images.size()), shape, device);
  const Buffer dlogits =
      upload(test_values<float>(8, kImages * c.vit.classes), {kImages, c.vit.classes}, device);

  engine::StepArena arena(device), copies;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = nn::Mode::kTrain,
                .precision = precision,
                .seed = 11,
                .step = 5,
                .sample_ids = batch.ids};
  moe::ModelOutput out;
  model.forward(f, tape.leaf(images.tensor(), dimages.tensor()), out);
  tape.backward(out.logits, dlogits.tensor());
  Pass p;
  p.logits = f64_of(download<float>(out.logits));
  p.gradient = f64_of(download<float>(store.slab(Slab::kGrad)));
  p.images = f64_of(download<float>(dimages));
  p.not_finite = tape.first_non_finite();
  p.dtypes = {out.logits.dtype()};
  for (const moe::Routing& r : out.routings) {
    for (const Tensor* t : {&r.logits, &r.clean, &r.noisy_logits, &r.gates, &r.weight}) {
      p.dtypes.push_back(t->dtype());
    }
    const moe::Routing here = moe::on_host(r, copies);
    p.gates.push_back(f64_of(here.gates));
    if (r.soft) continue;
    p.outputs = r.outputs.dtype();
    // Who reads them on the host finds f32.
    CHECK(here.outputs.dtype() == Dtype::kF32);
    CHECK(here.outputs.shape() == r.outputs.shape());
    if (r.outputs.dtype() != Dtype::kBF16) continue;
    const auto stored = download<engine::bf16>(r.outputs);
    const auto wide = copy_of<float>(here.outputs);
    bool same = true;
    for (size_t i = 0; i < wide.size(); ++i) same &= wide[i] == engine::to_float(stored[i]);
    CHECK(same);
  }
  return p;
}

// |a - b| / |b|
double distance_of(const naive::Vec& a, const naive::Vec& b) {
  double difference = 0, norm = 0;
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(a[i] - b[i], 2);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

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
