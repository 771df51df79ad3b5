#include "moe/vmoe.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "tests/reference/naive_layers.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/heap_counter.h"
#include "tests/support/model_fixture.h"

using namespace engine::test;
using engine::Dtype;
using engine::ErrorKind;
using engine::Shape;
using engine::Slab;
using engine::Tensor;
using moe::VmoeConfig;

namespace {

// "V-MoE-S/32, last 2".
VmoeConfig published(int64_t image_size, int64_t classes, bool pre_logits) {
  VmoeConfig c;
  c.vit = nn::named_vit("S");
  c.vit.image_size = image_size;
  c.vit.patch = 32;
  c.vit.classes = classes;
  c.vit.pre_logits = pre_logits;
  c.moe_layers = {5, 7};
  return c;
}

int64_t count_of(const VmoeConfig& c) {
  moe::Vmoe model(c);
  return Declared(model).store.count();
}

Bound<moe::Vmoe> random_model(const VmoeConfig& c, Dtype dtype = Dtype::kF64) {
  Bound<moe::Vmoe> bound(c, dtype);
  randomise(bound.store);
  return bound;
}

// Parameters in which the experts of every MoE layer are copies of a dense model's MLP.
void copy_dense(const naive::Params& dense, int64_t experts, engine::ParamStore& to) {
  for (const auto& [path, v] : dense) {
    std::string name = path;
    int64_t copies = 1;
    if (const size_t at = name.find(".mlp."); at != std::string::npos) {
      std::string in_moe = name;
      in_moe.replace(at, 5, ".moe.experts.");
      const auto& entries = to.entries();
      const bool is_moe = std::any_of(entries.begin(), entries.end(),
                                      [&](const auto& e) { return e.path == in_moe; });
      if (is_moe) {
        name = in_moe;
        copies = experts;
      }
    }
    naive::Vec all;
    for (int64_t e = 0; e < copies; ++e) all.insert(all.end(), v.begin(), v.end());
    set_param(to, name, all);
  }
}

}  // namespace

TEST_CASE("vmoe: parameter counts of the published models") {
  CHECK(count_of(published(224, 1000, true)) == 56'999'400);
  CHECK(count_of(published(384, 1000, false)) == 56'785'384);
  CHECK(count_of(published(128, 100, false)) == 56'258'148);
  VmoeConfig dense = published(224, 1000, true);
  dense.moe_layers = {};
  CHECK(count_of(dense) == 27'595'240);
}

TEST_CASE("vmoe: multiply-adds of an image") {
  // Two blocks of width 6 with 4 + 1 tokens; the second has 2 of 4 experts.
  VmoeConfig c;
  c.vit = {.image_size = 8,
           .channels = 2,
           .patch = 4,
           .classes = 7,
           .width = 6,
           .mlp = 9,
           .heads = 2,
           .layers = 2};
  c.moe.experts = 4;
  c.moe.top_k = 2;
  const int64_t stem = 4 * 32 * 6;
  const int64_t attention = 5 * 6 * 18 + 2 * 5 * 5 * 6 + 5 * 6 * 6;
  const int64_t mlp = 5 * (6 * 9 + 9 * 6);
  CHECK(moe::cost_per_image(c).done() == stem + 2 * (attention + mlp) + 6 * 7);
  c.moe_layers = {1};
  CHECK(moe::cost_per_image(c).done() == stem + 2 * attention + mlp + 2 * mlp + 5 * 6 * 4 + 6 * 7);
  c.vit.pre_logits = true;
  c.vit.pool = nn::Pool::kMean;
  CHECK(moe::cost_per_image(c).done() == stem + 2 * (4 * 6 * 18 + 2 * 4 * 4 * 6 + 4 * 6 * 6) +
                                             3 * mlp / 5 * 4 + 4 * 6 * 4 + 6 * 6 + 6 * 7);
}

TEST_CASE("vmoe: refuses layers that are not there, twice or unsorted") {
  const auto refuses = [](std::vector<int64_t> layers) {
    VmoeConfig c = small_vmoe();  // three blocks
    c.moe_layers = std::move(layers);
    const bool in_model = caught([&] { moe::Vmoe model(c); }).is(ErrorKind::kValue);
    return in_model && caught([&] { c.check(); }).is(ErrorKind::kValue, {"moe.layers"});
  };
  CHECK(refuses({3}));
  CHECK(refuses({-1, 1}));
  CHECK(refuses({1, 1}));
  CHECK(refuses({2, 0}));
  VmoeConfig c = small_vmoe();
  c.moe.top_k = 5;
  CHECK(caught([&] { moe::Vmoe model(c); }).is(ErrorKind::kValue, {"moe.top_k"}));
  c.moe_layers = {};  // then the options of MoE layers do not matter
  CHECK_FALSE(caught([&] { moe::Vmoe model(c); }).kind);
}

TEST_CASE("vmoe: one routing an MoE layer, in block order, whatever was in the output before") {
  VmoeConfig c = small_vmoe();
  c.vit.pool = nn::Pool::kMean;
  const Bound<moe::Vmoe> bound = random_model(c);
  moe::ModelOutput out;
  out.routings.resize(5);
  for (const int64_t images : {6, 2}) {
    engine::StepArena arena;
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape, .sample_ids = {}};
    const Batch<double> batch = random_batch<double>(c, images);
    bound.model.forward(f, tape.input(view(batch.images, {images, 2, 8, 8})), out);
    CHECK(out.logits.shape() == Shape{images, 5});
    REQUIRE(out.routings.size() == 2);
    CHECK(out.routings[0].layer == 0);
    CHECK(out.routings[1].layer == 2);
    for (const moe::Routing& r : out.routings) {
      CHECK(r.images == images);
      CHECK(r.tokens == 4);
      CHECK_FALSE(r.class_token);
      CHECK(r.sigma == 0);
    }
    const std::vector<moe::RoutingRandom> three(3);
    CHECK(caught([&] {
            bound.model.forward(f, tape.input(view(batch.images, {images, 2, 8, 8})), out, three);
          }).is(ErrorKind::kValue, {"3 of 2"}));
  }
}

TEST_CASE("vmoe: another MoE layer does not change the start of the others") {
  VmoeConfig c = small_vmoe();
  const naive::Params two = params_of(Bound<moe::Vmoe>(c).store);
  c.moe_layers = {0, 1, 2};
  const naive::Params three = params_of(Bound<moe::Vmoe>(c).store);
  for (const auto& [path, v] : two) {
    if (path.find("blocks.1.mlp") == std::string::npos) CHECK(three.at(path) == v);
  }
}

TEST_CASE("vmoe: one expert, or all of several equal ones, is the dense model") {
  VmoeConfig dense = small_vmoe();
  dense.moe_layers = {};
  const Batch<double> batch = random_batch<double>(dense, 6);
  for (const int64_t experts : {1, 3}) {
    Bound<moe::Vmoe> vit = random_model(dense);
    Bound<moe::Vmoe> mixture = random_model(small_vmoe(experts, experts));
    copy_dense(params_of(vit.store), experts, mixture.store);
    const Step want = run_step(vit, batch, Losses{}), got = run_step(mixture, batch, Losses{});
    if (experts == 1) CHECK(got.logits == want.logits);
    CHECK(error_of(got.logits, want.logits) <= 1e-12);
    for (const char* path : {"stem.position", "stem.patch.weight", "head.output.weight",
                             "blocks.0.attention.qkv.weight", "blocks.1.mlp.up.weight"}) {
      CHECK(error_of(got.grads.at(path), want.grads.at(path)) <= 1e-12);
    }
    // The experts' gradients add up to the dense one's.
    const naive::Vec dense_grad = want.grads.at("blocks.2.mlp.down.weight");
    naive::Vec sum(dense_grad.size(), 0);
    const naive::Vec each = got.grads.at("blocks.2.moe.experts.down.weight");
    for (size_t i = 0; i < each.size(); ++i) sum[i % sum.size()] += each[i];
    CHECK(error_of(sum, dense_grad) <= 1e-12);
  }
}

TEST_CASE("vmoe: permuting experts changes nothing but their order") {
  const VmoeConfig c = small_vmoe();
  const std::vector<int64_t> order = {2, 0, 3, 1};
  const auto permuted = [&](const std::string& path, const naive::Vec& v) {
    const bool router = path.ends_with("router.weight");
    if (!router && path.find(".experts.") == std::string::npos) return v;
    naive::Vec out = v;
    const auto size = static_cast<int64_t>(v.size()) / 4;
    for (int64_t i = 0; i < static_cast<int64_t>(v.size()); ++i) {
      out[i] = router ? v[i / 4 * 4 + order[i % 4]] : v[order[i / size] * size + i % size];
    }
    return out;
  };
  Batch<double> batch = random_batch<double>(c, 6);
  add_noise(batch, c);
  Bound<moe::Vmoe> straight = random_model(c), turned = random_model(c);
  const naive::Params params = params_of(straight.store);
  for (const auto& [path, v] : params) set_param(turned.store, path, permuted(path, v));
  const Losses losses{.importance = 0.7, .load = 0.9, .prc = moe::PrcForm::kPaper};
  const Step a = run_step(straight, batch, losses);
  for (auto& noise : batch.noise) {  // (N, E): the noise of an expert goes with it
    const auto before = noise;
    for (size_t i = 0; i < noise.size(); ++i) noise[i] = before[i / 4 * 4 + order[i % 4]];
  }
  const Step b = run_step(turned, batch, losses);
  CHECK(error_of(b.logits, a.logits) <= 1e-12);
  CHECK(error_of(b.total, a.total) <= 1e-12);
  naive::Params want;
  for (const auto& [path, grad] : a.grads) want[path] = permuted(path, grad);
  const WorstTensor worst = worst_of(b.grads, want);
  CHECK_MESSAGE(worst.ok(1e-12), worst);
  for (size_t l = 0; l < a.layers.size(); ++l) {
    naive::Indices named;
    for (const int64_t e : b.layers[l].expert) named.push_back(order[e]);
    CHECK(named == a.layers[l].expert);
  }
}

TEST_CASE("vmoe: enough capacity is dropless, the same bits") {
  VmoeConfig c = small_vmoe();
  const Batch<float> batch = random_batch<float>(c, 8);
  Bound<moe::Vmoe> free = random_model(c, Dtype::kF32);
  c.moe.dispatch = moe::Dispatch::kCapacity;
  c.moe.capacity_factor = 4;
  Bound<moe::Vmoe> ample = random_model(c, Dtype::kF32);
  const Step a = run_step(free, batch, Losses{}), b = run_step(ample, batch, Losses{});
  CHECK(b.dropped == 0);
  CHECK(a.logits == b.logits);
  CHECK(a.grads == b.grads);
}

namespace {

// Gradients of the cross-entropy of images [begin, begin + count) of a batch are added to the
// store; with `image_grads`, also those of the images, and none to the parameters.
void accumulate(Bound<moe::Vmoe>& bound, const Batch<double>& batch, int64_t begin, int64_t count,
                std::vector<double>* image_grads = nullptr, bool param_grads = true) {
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = nn::Mode::kTrain,
                .param_grads = param_grads,
                .seed = 2,
                .step = 9,
                .sample_ids = std::span(batch.ids).subspan(begin, count)};
  const Tensor all = view(batch.images, {batch.count, 2, 8, 8});
  Tensor images = tape.input(all.rows(begin, begin + count));
  if (image_grads != nullptr) {
    image_grads->assign(count * 128, 0);
    images = tape.leaf(all.rows(begin, begin + count), view(*image_grads, {count, 2, 8, 8}));
  }
  moe::ModelOutput out;
  bound.model.forward(f, images, out);
  const Tensor labels = view(batch.labels, {batch.count}).rows(begin, begin + count);
  const Tensor loss = engine::cross_entropy(out.logits, labels, engine::CrossEntropy::kSoftmax,
                                            static_cast<double>(batch.count));
  const std::vector<double> one = {1};
  tape.backward(loss, view(one, {1}));
}

}  // namespace

TEST_CASE("vmoe: micro-batches add up to the batch, noise and dropout included") {
  VmoeConfig c = small_vmoe();
  c.moe.expert_dropout = 0.3;
  c.stochastic_depth = 0.4;
  Bound<moe::Vmoe> bound = random_model(c);
  const Batch<double> batch = random_batch<double>(c, 7);
  accumulate(bound, batch, 0, 7);
  const naive::Params whole = params_of(bound.store, Slab::kGrad);
  bound.store.zero(Slab::kGrad);
  for (const auto& [begin, count] : {std::pair{0, 1}, {1, 4}, {5, 2}}) {
    accumulate(bound, batch, begin, count);
  }
  const WorstTensor worst = worst_of(params_of(bound.store, Slab::kGrad), whole);
  CHECK_MESSAGE(worst.ok(1e-12), worst);
}

TEST_CASE("vmoe: who skips a block passes it by, whatever the block is") {
  for (const auto& [chooser, blocks] : {std::pair{moe::Chooser::kTokens, std::vector<int64_t>{}},
                                        {moe::Chooser::kTokens, {1}},
                                        {moe::Chooser::kExperts, {1}},
                                        {moe::Chooser::kSoft, {1}}}) {
    VmoeConfig c = small_vmoe();
    c.vit.layers = 2;
    c.moe_layers = blocks;
    c.moe.chooser = chooser;
    c.moe.noise_std = 0;
    c.stochastic_depth = 0.5;
    VmoeConfig first_alone = c;
    first_alone.vit.layers = 1;
    first_alone.moe_layers = {};
    first_alone.stochastic_depth = 0;
    Bound<moe::Vmoe> deep = random_model(c), shallow(first_alone);
    for (const auto& [path, value] : params_of(deep.store)) {
      if (!path.starts_with("blocks.1.")) set_param(shallow.store, path, value);
    }
    const Batch<double> batch = random_batch<double>(c, 40);
    const naive::Vec all = run_step(deep, batch, {}).logits,
                     short_cut = run_step(shallow, batch, {}).logits;
    int64_t passed = 0;
    for (int64_t n = 0; n < 40; ++n) {
      const auto row = [&](const naive::Vec& v) { return v.begin() + n * c.vit.classes; };
      passed += std::equal(row(all), row(all) + c.vit.classes, row(short_cut));
    }
    CHECK(passed > 2);  // a quarter skips both branches
    CHECK(passed < 20);
  }
  CHECK(nn::stochastic_depth_of(0.3, 0, 4) == 0);
  CHECK(nn::stochastic_depth_of(0.3, 2, 4) == doctest::Approx(0.2));
  CHECK(nn::stochastic_depth_of(0.3, 3, 4) == 0.3);
  CHECK(nn::stochastic_depth_of(0.3, 0, 1) == 0);
  VmoeConfig bad = small_vmoe();
  bad.stochastic_depth = 1;
  CHECK(caught([&] { moe::Vmoe model(bad); }).message ==
        "model.stochastic_depth must lie in [0, 1), got 1");
  bad.stochastic_depth = 0.5;
  bad.vit.layers = 1;
  bad.moe_layers = {0};
  CHECK(caught([&] { moe::Vmoe model(bad); }).is(ErrorKind::kValue));
}

TEST_CASE("vmoe: an attack gets the gradient of the images and leaves the parameters alone") {
  Bound<moe::Vmoe> bound = random_model(small_vmoe());
  const Batch<double> batch = random_batch<double>(bound.model.config(), 4);
  std::vector<double> with, without;
  accumulate(bound, batch, 0, 4, &with);
  const naive::Params value = params_of(bound.store);
  bound.store.zero(Slab::kGrad);
  accumulate(bound, batch, 0, 4, &without, /*param_grads=*/false);
  CHECK(same_bytes(with, without));
  CHECK(error_of(with, std::vector<double>(with.size(), 0)) == INFINITY);
  CHECK(params_of(bound.store) == value);
  for (const auto& [path, grad] : params_of(bound.store, Slab::kGrad)) {
    CHECK(grad == naive::Vec(grad.size(), 0));
  }
}

TEST_CASE("vmoe: gradient of the images by differences") {
  VmoeConfig c = small_vmoe(4, 4);  // all experts: no choice that could flip
  const Bound<moe::Vmoe> bound = random_model(c);
  const auto report = gradcheck_along(
      [&](std::span<const Tensor> x) {
        nn::Forward f{.tape = *x[0].tape(), .param_grads = false, .sample_ids = {}};
        moe::ModelOutput out;
        bound.model.forward(f, x[0], out);
        return out.logits;
      },
      {Shape{2, 2, 8, 8}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("vmoe: learns 32 images by heart") {
  const Threads one(1);  // too small a model for more
  VmoeConfig c = small_vmoe(4, 2);
  c.vit.width = 24;
  c.vit.mlp = 48;
  Batch<float> batch = random_batch<float>(c, 32);
  for (size_t i = 0; i < 32; ++i) batch.labels[i] = static_cast<int32_t>(i * i % 5);
  Bound<moe::Vmoe> bound(c, Dtype::kF32);
  const naive::Vec router = params_of(bound.store).at("blocks.2.moe.router.weight");
  const Losses losses{.importance = 0.005, .load = 0.005};
  PlainAdam adam;
  CHECK(run_step(bound, batch, losses).cross_entropy == doctest::Approx(std::log(5)).epsilon(1e-5));
  for (int step = 0; step < 80; ++step) {
    run_step(bound, batch, losses);
    adam.step<float>(bound.store);
  }
  CHECK(run_step(bound, batch, losses).cross_entropy < 0.1);
  CHECK(run_step(bound, batch, losses, nn::Mode::kEval).cross_entropy < 0.1);
  CHECK(params_of(bound.store).at("blocks.2.moe.router.weight") != router);
}

namespace {

// Heap allocations of each of some steps that use one tape, arena and output.
std::vector<int64_t> allocations_of_steps(int64_t steps) {
  VmoeConfig c = small_vmoe();
  c.moe.expert_dropout = 0.2;
  c.moe.dispatch = moe::Dispatch::kCapacity;
  c.moe.group_images = 2;
  Bound<moe::Vmoe> bound = random_model(c, Dtype::kF32);
  const Batch<float> batch = random_batch<float>(c, 8);
  const Losses losses{.importance = 0.1, .load = 0.1, .prc = moe::PrcForm::kFork};
  const std::vector<float> one = {1};
  engine::StepArena arena;
  engine::Tape tape(arena);
  moe::ModelOutput out;
  std::vector<int64_t> allocations(static_cast<size_t>(steps));
  for (int64_t step = 0; step < steps; ++step) {
    const HeapCounter heap;
    tape.clear();
    arena.reset();
    bound.store.zero(Slab::kGrad);
    nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain, .step = step, .sample_ids = batch.ids};
    bound.model.forward(f, tape.input(view(batch.images, {8, 2, 8, 8})), out);
    const Terms terms =
        total_loss(tape, c, out, losses, view(batch.labels, {8}), view(batch.match, {4, 4}));
    tape.backward(terms.total, view(one, {1}));
    allocations[step] = heap.count();
  }
  return allocations;
}

}  // namespace

TEST_CASE("vmoe: a warm step makes no heap allocation" * doctest::skip(!HeapCounter::available())) {
  const Threads one(1);
  const std::vector<int64_t> steps = allocations_of_steps(4);
  CHECK(steps[0] > 0);  // the counter counts
  CHECK(steps[2] == 0);
  CHECK(steps[3] == 0);
}

TEST_CASE("vmoe: a warm step makes no heap allocation on several threads either" *
          doctest::skip(!HeapCounter::available())) {
  for (const int threads : {2, 5}) {
    CAPTURE(threads);
    const Threads scope(threads);
    const std::vector<int64_t> steps = allocations_of_steps(8);
    // Which thread gets which task is left to chance, so one may need its workspace late.
    CHECK(*std::min_element(steps.begin() + 2, steps.end()) == 0);
  }
}
