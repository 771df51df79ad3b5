#include <doctest/doctest.h>

#include <vector>

#include "tests/support/bits.h"
#include "tests/support/model_fixture.h"

// A prediction has the same bits whatever else is in its batch, on any number of threads.
using namespace engine::test;

namespace {

// Widths that fill no register tile evenly.
moe::VmoeConfig odd_model() {
  moe::VmoeConfig c = small_vmoe(5, 2);
  c.vit.width = 42;
  c.vit.mlp = 75;
  c.moe.expert_dropout = 0.2;
  return c;
}

// Logits and, behind them, what every MoE layer's router said of images [begin, begin + count).
struct Predictions {
  std::vector<float> logits, clean, gates;
};

Predictions predict(const Bound<moe::Vmoe>& bound, const Batch<float>& all, int64_t begin,
                    int64_t count, nn::Mode mode) {
  const nn::VitConfig& vit = bound.model.config().vit;
  const int64_t pixels = vit.channels * vit.image_size * vit.image_size;
  engine::StepArena arena;
  engine::Tape tape(arena);
  nn::Forward f{.tape = tape,
                .mode = mode,
                .precision = bound.model.config().precision,
                .seed = 3,
                .step = 4,
                .sample_ids = std::span(all.ids).subspan(begin, count)};
  const engine::Tensor images =
      view(all.images, {all.count, vit.channels, vit.image_size, vit.image_size});
  // A copy, so that the images start where a batch of their own would.
  const std::vector<float> own = copy_of<float>(images.rows(begin, begin + count));
  CHECK(static_cast<int64_t>(own.size()) == count * pixels);
  moe::ModelOutput out;
  bound.model.forward(
      f, tape.input(view(own, {count, vit.channels, vit.image_size, vit.image_size})), out);
  Predictions p{copy_of<float>(out.logits), {}, {}};
  for (const moe::Routing& r : out.routings) {
    const auto clean = copy_of<float>(r.clean), gates = copy_of<float>(r.gates);
    p.clean.insert(p.clean.end(), clean.begin(), clean.end());
    p.gates.insert(p.gates.end(), gates.begin(), gates.end());
  }
  return p;
}

// The part of (layers, images * row) that belongs to some images.
std::vector<float> rows_of(const std::vector<float>& v, int64_t layers, int64_t images,
                           int64_t begin, int64_t count) {
  const auto row = static_cast<int64_t>(v.size()) / (layers * images);
  std::vector<float> out;
  for (int64_t l = 0; l < layers; ++l) {
    const auto from = v.begin() + (l * images + begin) * row;
    out.insert(out.end(), from, from + count * row);
  }
  return out;
}

// Whether batches of 1 and 7, at several places, say what the batch of 256 says.
bool batch_shows_nowhere(const Bound<moe::Vmoe>& bound, nn::Mode mode) {
  constexpr int64_t kImages = 256;
  const Batch<float> all = random_batch<float>(bound.model.config(), kImages);
  const auto layers = static_cast<int64_t>(bound.model.config().moe_layers.size());
  const Predictions whole = predict(bound, all, 0, kImages, mode);
  for (const int64_t count : {1, 7}) {
    for (const int64_t begin : {int64_t{0}, int64_t{100}, int64_t{131}, kImages - count}) {
      const Predictions some = predict(bound, all, begin, count, mode);
      if (!same_bytes(some.logits, rows_of(whole.logits, 1, kImages, begin, count)) ||
          !same_bytes(some.clean, rows_of(whole.clean, layers, kImages, begin, count)) ||
          !same_bytes(some.gates, rows_of(whole.gates, layers, kImages, begin, count))) {
        return false;
      }
    }
  }
  return true;
}

Bound<moe::Vmoe> random_model(const moe::VmoeConfig& c) {
  Bound<moe::Vmoe> bound(c, engine::Dtype::kF32);
  randomise(bound.store);
  return bound;
}

}  // namespace

TEST_CASE("row guarantee: same bits of a prediction in batches of 1, 7 and 256") {
  for (const int threads : {1, 2, 5}) {
    const Threads scope(threads);
    CAPTURE(threads);
    CHECK(batch_shows_nowhere(random_model(odd_model()), nn::Mode::kEval));
  }
}

TEST_CASE("row guarantee: same bits in training, noise and dropout follow the sample") {
  for (const int threads : {1, 2, 5}) {
    const Threads scope(threads);
    CAPTURE(threads);
    CHECK(batch_shows_nowhere(random_model(odd_model()), nn::Mode::kTrain));
  }
}

TEST_CASE("row guarantee: same bits in bf16, too") {
  moe::VmoeConfig c = odd_model();
  c.precision = engine::Precision::kBf16;
  const Bound<moe::Vmoe> bound = random_model(c);
  for (const int threads : {1, 2, 5}) {
    const Threads scope(threads);
    CHECK(batch_shows_nowhere(bound, nn::Mode::kEval));
    CHECK(batch_shows_nowhere(bound, nn::Mode::kTrain));
  }
}

TEST_CASE("row guarantee: a capacity in training does not bind evaluation") {
  moe::VmoeConfig c = odd_model();
  c.moe.dispatch = moe::Dispatch::kCapacity;
  c.moe.capacity_factor = 0.5;
  c.moe.capacity_multiple_of = 1;
  const Bound<moe::Vmoe> bound = random_model(c);
  CHECK(batch_shows_nowhere(bound, nn::Mode::kEval));
  // In training neighbours compete for places: this check must be able to fail.
  CHECK_FALSE(batch_shows_nowhere(bound, nn::Mode::kTrain));
}

TEST_CASE("row guarantee: same bits of logits for any number of threads") {
  const Bound<moe::Vmoe> bound = random_model(odd_model());
  const Batch<float> all = random_batch<float>(bound.model.config(), 64);
  for (const nn::Mode mode : {nn::Mode::kEval, nn::Mode::kTrain}) {
    CHECK(same_bits_for_threads([&] { return predict(bound, all, 0, 64, mode).logits; }));
  }
}

TEST_CASE("row guarantee: same bits of every gradient for any number of threads") {
  moe::VmoeConfig c = odd_model();
  for (const bool capacity : {false, true}) {
    c.moe.dispatch = capacity ? moe::Dispatch::kCapacity : moe::Dispatch::kDropless;
    c.moe.capacity_factor = 0.9;
    c.moe.group_images = 4;
    Bound<moe::Vmoe> bound = random_model(c);
    const Batch<float> batch = random_batch<float>(c, 32);
    const Losses losses{.importance = 0.7, .load = 0.9, .prc = moe::PrcForm::kFork};
    CHECK(same_bits_for_threads([&] {
      const Step step = run_step(bound, batch, losses);
      naive::Vec all = step.logits;
      all.push_back(step.total);
      for (const auto& [name, grad] : step.grads) all.insert(all.end(), grad.begin(), grad.end());
      return all;
    }));
  }
}

TEST_CASE("row guarantee: same bits of a prediction in a wider model of eight experts") {
  moe::VmoeConfig c = small_vmoe(8, 2);
  c.vit =
      nn::VitConfig{.image_size = 16, .patch = 4, .width = 96, .mlp = 384, .heads = 3, .layers = 2};
  c.moe_layers = {1};
  const Bound<moe::Vmoe> bound = random_model(c);
  const Batch<float> all = random_batch<float>(c, 40);
  const Predictions whole = predict(bound, all, 0, 40, nn::Mode::kEval);
  for (const int64_t begin : {0, 1, 39}) {
    const Predictions one = predict(bound, all, begin, 1, nn::Mode::kEval);
    CHECK(same_bytes(one.logits, rows_of(whole.logits, 1, 40, begin, 1)));
  }
}
