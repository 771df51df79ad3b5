#include "nn/vit.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "engine/ops/cross_entropy.h"
#include "moe/vmoe.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::Dtype;
using engine::ErrorKind;
using engine::Slab;
using engine::Tensor;
using nn::VitConfig;

namespace {

VitConfig small_vit() { return small_vmoe().vit; }

// A dense model is for the reference one without MoE layers.
moe::VmoeConfig dense(const VitConfig& vit) {
  moe::VmoeConfig c;
  c.vit = vit;
  return c;
}

// Cross-entropy of a training step; logits where they are asked for.
template <class T>
double vit_step(Bound<nn::Vit>& bound, const VitConfig& c, const Batch<T>& batch,
                naive::Vec* logits = nullptr) {
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain, .sample_ids = {}};
  const Tensor y = bound.model.forward(
      f, tape.input(view(batch.images, {batch.count, c.channels, c.image_size, c.image_size})));
  const Tensor loss =
      engine::cross_entropy(y, view(batch.labels, {batch.count}), engine::CrossEntropy::kSoftmax,
                            static_cast<double>(batch.count));
  bound.store.zero(Slab::kGrad);
  const std::vector<T> one = {1};
  tape.backward(loss, view(one, {1}));
  if (logits != nullptr) *logits = f64_of(y);
  return scalar(loss);
}

}  // namespace

TEST_CASE("vit: parameter counts of the dense twin") {
  VitConfig c = nn::named_vit("S");
  c.image_size = 224;
  c.patch = 32;
  c.classes = 1000;
  c.pre_logits = true;
  nn::Vit model(c);
  CHECK(Declared(model).store.count() == 27'595'240);
}

TEST_CASE("vit: named sizes") {
  const auto is = [](const char* name, int64_t width, int64_t layers, int64_t mlp, int64_t heads) {
    const VitConfig c = nn::named_vit(name);
    return c.width == width && c.layers == layers && c.mlp == mlp && c.heads == heads;
  };
  CHECK(is("T", 384, 8, 1024, 4));
  CHECK(is("S", 512, 8, 2048, 8));
  CHECK(is("B", 768, 12, 3072, 12));
  CHECK(is("L", 1024, 24, 4096, 16));
  CHECK(is("H", 1280, 32, 5120, 16));
  CHECK(caught([] { nn::named_vit("XXL"); }).is(ErrorKind::kValue, {"XXL"}));
  CHECK(caught([] { nn::named_vit(""); }).is(ErrorKind::kValue));
}

TEST_CASE("vit: tokens of the published image sizes") {
  VitConfig c = nn::named_vit("S");
  c.patch = 32;
  for (const auto& [size, tokens] : {std::pair{224, 50}, {384, 145}, {128, 17}}) {
    c.image_size = size;
    c.pool = nn::Pool::kToken;
    CHECK(c.tokens() == tokens);
    c.pool = nn::Pool::kMean;
    CHECK(c.tokens() == tokens - 1);
  }
}

TEST_CASE("vit: refuses sizes that do not fit, and says which") {
  const auto refuses = [](void (*change)(VitConfig&), const char* key) {
    VitConfig c = small_vit();
    CHECK_FALSE(caught([&] { c.check(); }).kind);
    change(c);
    const bool in_model = caught([&] { nn::Vit model(c); }).is(ErrorKind::kValue);
    return in_model && caught([&] { c.check(); }).is(ErrorKind::kValue, {key});
  };
  CHECK(refuses([](VitConfig& c) { c.image_size = 0; }, "image_size"));
  CHECK(refuses([](VitConfig& c) { c.channels = -1; }, "channels"));
  CHECK(refuses([](VitConfig& c) { c.patch = 0; }, "patch"));
  CHECK(refuses([](VitConfig& c) { c.classes = 0; }, "classes"));
  CHECK(refuses([](VitConfig& c) { c.width = 0; }, "width"));
  CHECK(refuses([](VitConfig& c) { c.mlp = 0; }, "mlp"));
  CHECK(refuses([](VitConfig& c) { c.heads = 0; }, "heads"));
  CHECK(refuses([](VitConfig& c) { c.layers = 0; }, "layers"));
  CHECK(refuses([](VitConfig& c) { c.patch = 3; }, "patch"));
  CHECK(refuses([](VitConfig& c) { c.heads = 5; }, "heads"));
}

TEST_CASE("vit: an untrained model predicts the base rate") {
  VitConfig c = small_vit();
  c.classes = 1000;
  Bound<nn::Vit> bound(c);
  const Batch<double> batch = random_batch<double>(dense(c), 4);
  naive::Vec logits;
  CHECK(std::abs(vit_step(bound, c, batch, &logits) - std::log(1000.0)) <= 1e-12);
  for (const double z : logits) CHECK(z == -std::log(1000.0));
  const naive::Params params = params_of(bound.store);
  CHECK(params.at("head.output.weight") == naive::Vec(12 * 1000, 0));
  CHECK(params.at("stem.class_token") == naive::Vec(12, 0));
  CHECK(params.at("head.output.bias")[7] == doctest::Approx(-6.907755).epsilon(1e-6));
}

TEST_CASE("vit: how the stem and the pre-logits start") {
  VitConfig c = small_vit();
  c.width = 96;
  c.pre_logits = true;
  const naive::Params params = params_of(Bound<nn::Vit>(c).store);
  const auto deviation = [&](const char* name) {
    double square = 0;
    for (const double v : params.at(name)) square += v * v;
    return std::sqrt(square / static_cast<double>(params.at(name).size()));
  };
  CHECK(deviation("stem.patch.weight") == doctest::Approx(std::sqrt(1.0 / 32)).epsilon(0.05));
  CHECK(deviation("stem.position") == doctest::Approx(0.02).epsilon(0.1));
  CHECK(deviation("head.pre_logits.weight") == doctest::Approx(std::sqrt(1.0 / 96)).epsilon(0.03));
  CHECK(deviation("stem.patch.bias") == 0);
  CHECK(deviation("head.pre_logits.bias") == 0);
}

TEST_CASE("vit: equals the naive model") {
  for (int variant = 0; variant < 4; ++variant) {
    CAPTURE(variant);
    VitConfig c = small_vit();
    c.pre_logits = variant >= 2;
    c.pool = variant % 2 == 1 ? nn::Pool::kMean : nn::Pool::kToken;
    c.gelu = variant == 3 ? engine::GeluForm::kErf : engine::GeluForm::kTanh;
    Bound<nn::Vit> bound(c);
    randomise(bound.store);
    const Batch<double> batch = random_batch<double>(dense(c), 4);
    naive::Vec logits;
    const double loss = vit_step(bound, c, batch, &logits);
    const naive::Result want =
        naive::run(naive_config(dense(c)), params_of(bound.store), naive_inputs(batch));
    CHECK(error_of(logits, want.logits) <= 1e-9);
    CHECK(error_of(loss, want.total) <= 1e-9);
    const WorstTensor worst = worst_of(params_of(bound.store, Slab::kGrad), want.grads);
    CHECK_MESSAGE(worst.ok(1e-9), worst);
  }
}

TEST_CASE("vit: gradient of the images by differences") {
  const VitConfig c = small_vit();
  Bound<nn::Vit> bound(c);
  randomise(bound.store);
  const auto report = gradcheck_along(
      [&](std::span<const Tensor> x) {
        nn::Forward f{.tape = *x[0].tape(), .param_grads = false, .sample_ids = {}};
        return bound.model.forward(f, x[0]);
      },
      {engine::Shape{2, c.channels, c.image_size, c.image_size}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("vit: same bits as a V-MoE without MoE layers") {
  const VitConfig c = small_vit();
  const Batch<float> batch = random_batch<float>(dense(c), 6);
  Bound<nn::Vit> vit(c, Dtype::kF32);
  Bound<moe::Vmoe> vmoe(dense(c), Dtype::kF32);
  CHECK(params_of(vit.store) == params_of(vmoe.store));
  randomise(vit.store);
  randomise(vmoe.store);
  naive::Vec logits;
  vit_step(vit, c, batch, &logits);
  const Step step = run_step(vmoe, batch, Losses{});
  CHECK(logits == step.logits);
  CHECK(params_of(vit.store, Slab::kGrad) == step.grads);
}

TEST_CASE("vit: same bits of logits and gradients for any number of threads") {
  VitConfig c = small_vit();
  c.width = 96;
  c.mlp = 136;
  const Batch<float> batch = random_batch<float>(dense(c), 24);
  Bound<nn::Vit> bound(c, Dtype::kF32);
  randomise(bound.store);
  CHECK(same_bits_for_threads([&] {
    naive::Vec all;
    vit_step(bound, c, batch, &all);
    for (const auto& [name, grad] : params_of(bound.store, Slab::kGrad)) {
      all.insert(all.end(), grad.begin(), grad.end());
    }
    return all;
  }));
}

TEST_CASE("vit: rejects images of another size") {
  const VitConfig c = small_vit();
  const Bound<nn::Vit> bound(c);
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape, .sample_ids = {}};
  const std::vector<double> v(2 * 3 * 16 * 16);
  for (const engine::Shape& shape :
       {engine::Shape{6, 2, 8, 16}, {3, 4, 8, 16}, {12, 2, 64}, {1536}, {6, 16, 4, 4}}) {
    CAPTURE(shape);
    CHECK(
        caught([&] { bound.model.forward(f, tape.input(view(v, shape))); }).is(ErrorKind::kShape));
  }
}

TEST_CASE("vit: learns 32 images by heart") {
  VitConfig c = small_vit();
  c.width = 24;
  c.mlp = 48;
  Batch<float> batch = random_batch<float>(dense(c), 32);
  for (size_t i = 0; i < 32; ++i) batch.labels[i] = static_cast<int32_t>(i * i % 5);
  Bound<nn::Vit> bound(c, Dtype::kF32);
  const Threads one(1);  // too small a model for more
  PlainAdam adam;
  CHECK(vit_step(bound, c, batch) == doctest::Approx(std::log(5.0)).epsilon(1e-5));
  for (int step = 0; step < 80; ++step) {
    vit_step(bound, c, batch);
    adam.step<float>(bound.store);
  }
  CHECK(vit_step(bound, c, batch) < 0.1);
}
