#include "train/evaluate.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/bits.h"
#include "tests/support/heap_counter.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"

using doctest::Approx;
using engine::CrossEntropy;
using engine::ErrorKind;
using engine::test::same_bytes;
using engine::test::view;
using train::Evaluation;
using train::test::contains;
using train::test::error_of;
using train::test::SmallModel;

namespace {

constexpr const char* kData = "shapes:size=16,train=30,test=30";

// Adds up logits (B, 3) with labels.
Evaluation sum_of(const std::vector<float>& logits, const std::vector<int32_t>& labels,
                  CrossEntropy kind = CrossEntropy::kSoftmax) {
  train::EvaluationSum sum(kind);
  sum.add(view(logits, {static_cast<int64_t>(logits.size()) / 3, 3}), labels);
  return sum.result();
}

std::vector<double> evaluated(const SmallModel& small) {
  const Evaluation e = train::evaluate(*small.model.network, small.config, *small.test);
  return {static_cast<double>(e.n), e.accuracy, e.accuracy_se, e.loss, e.loss_se};
}

}  // namespace

TEST_CASE("evaluate: accuracy, loss and their errors by hand") {
  const float l2 = std::log(2.0f);
  // Softmax (1/2, 1/4, 1/4) three times: labels 0, 0, 1.
  const Evaluation e = sum_of({l2, 0, 0, l2, 0, 0, l2, 0, 0}, {0, 0, 1});
  CHECK(e.n == 3);
  CHECK(e.accuracy == Approx(2 / 3.0));
  CHECK(e.accuracy_se == Approx(std::sqrt(2 / 27.0)));
  CHECK(e.loss == Approx(4 / 3.0 * std::log(2)));
  // Deviations -1/3, -1/3, 2/3 of ln 2: sum of squares 2/3, over n (n - 1) = 6.
  CHECK(e.loss_se == Approx(std::log(2) / 3));
  CHECK(sum_of({1, 1, 1}, {0}).accuracy == 1);  // ties to the lower class
  CHECK(sum_of({1, 1, 1}, {1}).accuracy == 0);
  CHECK(sum_of({0, 0, 0}, {2}, CrossEntropy::kSigmoid).loss == Approx(3 * std::log(2)));
  CHECK(sum_of({1e4f, -1e4f, 0}, {0}).loss == 0);
  CHECK(sum_of({1e4f, -1e4f, 0}, {1}, CrossEntropy::kSigmoid).loss == Approx(2e4 + std::log(2)));
  CHECK(sum_of({}, {}).n == 0);
}

TEST_CASE("evaluate: the loss is that of training") {
  const std::vector<float> logits = engine::test::values<float>(7 * 3, 5, 4);
  const std::vector<int32_t> labels = {0, 1, 2, 2, 1, 0, 1};
  for (const CrossEntropy kind : {CrossEntropy::kSoftmax, CrossEntropy::kSigmoid}) {
    engine::StepArena arena;
    engine::Tape tape(arena);
    const engine::Tensor loss = engine::cross_entropy(tape.input(view(logits, {7, 3})),
                                                      tape.input(view(labels, {7})), kind, 7);
    CHECK(sum_of(logits, labels, kind).loss ==
          Approx(static_cast<double>(loss.data<const float>()[0])).epsilon(1e-6));
  }
}

TEST_CASE("evaluate: output that is not finite, labels the model does not know") {
  CHECK(contains(error_of(ErrorKind::kValue,
                          [] {
                            sum_of({0, 0, 0, 0, NAN, 0}, {0, 0});
                          }),
                 "image 1 is not finite"));
  CHECK(contains(error_of(ErrorKind::kValue,
                          [] {
                            sum_of({0, 0, INFINITY}, {0});
                          }),
                 "is not finite"));
  CHECK(contains(error_of(ErrorKind::kValue, [] { sum_of({0, 0, 0}, {3}); }), "label 3"));
}

TEST_CASE("evaluate: same bits for any threads, workers and batch") {
  const std::vector<double> once = evaluated(SmallModel(kData, {}));
  CHECK(once[0] == 30);
  CHECK(once[3] > 0);
  CHECK(engine::test::same_bits_for_threads([] { return evaluated(SmallModel(kData, {})); }));
  for (const char* setting : {"data.workers=0", "data.workers=3", "eval.batch=7", "eval.batch=1"}) {
    CHECK(same_bytes(once, evaluated(SmallModel(kData, {setting}))));
  }
  CHECK(evaluated(SmallModel(kData, {"eval.limit=11"}))[0] == 11);
}

TEST_CASE("evaluate: capacity, batches that groups do not divide") {
  const std::vector<std::string> capacity = {"moe.dispatch=capacity", "moe.eval_capacity_factor=1",
                                             "moe.group_images=8"};
  SmallModel small(kData, capacity);
  CHECK(train::depends_on_neighbours(small.config));
  CHECK(small.model.network->dependent_images() > 0);
  const SmallModel plain(kData, {});
  CHECK_FALSE(train::depends_on_neighbours(plain.config));
  CHECK(plain.model.network->dependent_images() == 0);
  const std::vector<double> whole = evaluated(small);  // 16, then 14 = 8 + 6
  CHECK(whole[0] == 30);
  small.config.eval.batch = 8;  // the same groups
  CHECK(same_bytes(whole, evaluated(small)));

  // What fills a batch up is always the same: a batch of another size before does not show.
  data::LoaderOptions options = train::evaluation_loader(small.config);
  options.batch = 15;
  data::Loader loader = data::Loader::evaluation(*small.test, options);
  const data::Batch* batch = loader.next();
  const engine::Tensor images = train::pixels_of(*batch, small.config);
  const auto logits = [&](train::Inference& inference, int64_t count) {
    const engine::Tensor out = inference.run(images.rows(0, count)).logits;
    CHECK(out.shape()[0] == 16);
    return engine::test::copy_of<float>(out);
  };
  train::Inference fresh(*small.model.network), used(*small.model.network);
  logits(used, 15);
  CHECK(same_bytes(logits(fresh, 9), logits(used, 9)));
}

TEST_CASE("evaluate: a warm forward pass takes no memory from the heap" *
          doctest::skip(!engine::test::HeapCounter::available())) {
  const SmallModel small(kData, {});
  data::Loader loader =
      data::Loader::evaluation(*small.test, train::evaluation_loader(small.config));
  const engine::Tensor images = train::pixels_of(*loader.next(), small.config);
  train::Inference inference(*small.model.network);
  for (int i = 0; i < 3; ++i) inference.run(images);
  const engine::test::HeapCounter counter;
  inference.run(images);
  const int64_t allocations = counter.count();
  CHECK(allocations == 0);
}

TEST_CASE("evaluate: a model in training is left as it is") {
  SmallModel small(kData, {});
  train::Model training(small.config, /*with_grads=*/true);
  training.params.slab(engine::Slab::kGrad).data<float>()[0] = 3;
  const auto values = engine::test::copy_of<float>(training.params.slab(engine::Slab::kValue));
  const auto grads = engine::test::copy_of<float>(training.params.slab(engine::Slab::kGrad));
  train::evaluate(*training.network, small.config, *small.test);
  CHECK(
      same_bytes(values, engine::test::copy_of<float>(training.params.slab(engine::Slab::kValue))));
  CHECK(same_bytes(grads, engine::test::copy_of<float>(training.params.slab(engine::Slab::kGrad))));
}
