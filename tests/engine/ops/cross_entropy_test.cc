#include "engine/ops/cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

constexpr CrossEntropy kKinds[] = {CrossEntropy::kSoftmax, CrossEntropy::kSigmoid};

std::vector<int32_t> labels_for(int64_t rows, int64_t cols) {
  std::vector<int32_t> labels(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) labels[r] = static_cast<int32_t>((r * 7 + 3) % cols);
  return labels;
}

template <class T>
double naive_loss(const std::vector<T>& x, const std::vector<int32_t>& labels, int64_t cols,
                  CrossEntropy kind) {
  double loss = 0;
  for (size_t r = 0; r < labels.size(); ++r) {
    double sum = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const double v = x[r * cols + c], p = 1 / (1 + std::exp(-v));
      if (kind == CrossEntropy::kSigmoid) loss -= c == labels[r] ? std::log(p) : std::log1p(-p);
      sum += std::exp(v);
    }
    if (kind == CrossEntropy::kSoftmax) loss -= x[r * cols + labels[r]] - std::log(sum);
  }
  return loss;
}

test::Function loss_of(const std::vector<int32_t>& labels, CrossEntropy kind, double denominator) {
  return [&labels, kind, denominator](std::span<const Tensor> x) {
    return cross_entropy(x[0], view(labels, {static_cast<int64_t>(labels.size())}), kind,
                         denominator);
  };
}

}  // namespace

TEST_CASE("cross_entropy: matches a naive f64 reference") {
  for (const CrossEntropy kind : kKinds) {
    for (const Shape& shape :
         {Shape{1, 1}, Shape{1, 10}, Shape{7, 3}, Shape{64, 17}, Shape{300, 1000}}) {
      CAPTURE(shape);
      const auto labels = labels_for(shape[0], shape[1]);
      const auto x = values<float>(shape.numel(), 1, 5);
      const double want = naive_loss(x, labels, shape[1], kind) / 3;
      const auto y = run_op<float>(loss_of(labels, kind, 3), {shape}, {x}).y;
      REQUIRE(y.size() == 1);
      CHECK(std::abs(y[0] - want) <= 2e-7 * std::abs(want));
      const std::vector<double> xd(x.begin(), x.end());
      const auto yd = run_op<double>(loss_of(labels, kind, 3), {shape}, {xd}).y;
      CHECK(std::abs(yd[0] - want) <= 1e-12 * (1 + std::abs(want)));
    }
  }
}

TEST_CASE("cross_entropy: known values") {
  const std::vector<int32_t> labels = {1};
  const std::vector<double> x = {0, 0, 0, 0};
  CHECK(run_op<double>(loss_of(labels, CrossEntropy::kSoftmax, 1), {Shape{1, 4}}, {x}).y[0] ==
        doctest::Approx(std::log(4.0)));
  CHECK(run_op<double>(loss_of(labels, CrossEntropy::kSigmoid, 2), {Shape{1, 4}}, {x}).y[0] ==
        doctest::Approx(2 * std::log(2.0)));
}

TEST_CASE("cross_entropy: large logits neither overflow nor lose the loss") {
  const std::vector<int32_t> labels = {0, 1};
  const std::vector<float> x = {500, -500, 500, -500};
  const auto soft = run_op<float>(loss_of(labels, CrossEntropy::kSoftmax, 1), {Shape{2, 2}}, {x});
  CHECK(soft.y[0] == doctest::Approx(1000));
  const auto sigmoid =
      run_op<float>(loss_of(labels, CrossEntropy::kSigmoid, 1), {Shape{2, 2}}, {x});
  CHECK(sigmoid.y[0] == doctest::Approx(1000));
  for (const auto& run : {soft, sigmoid}) {
    const float v = test::values<float>(1, 1000)[0];
    CHECK(run.grads[0][0] == doctest::Approx(0));
    CHECK(run.grads[0][2] == doctest::Approx(v));
    CHECK(run.grads[0][3] == doctest::Approx(-v));
  }
}

TEST_CASE("cross_entropy: gradient") {
  for (const CrossEntropy kind : kKinds) {
    for (const Shape& shape : {Shape{1, 1}, Shape{1, 5}, Shape{4, 3}}) {
      const auto labels = labels_for(shape[0], shape[1]);
      const auto report = gradcheck(loss_of(labels, kind, 2.5), {shape});
      CHECK_MESSAGE(report.ok(), report);
    }
    const auto labels = labels_for(4, 3);
    const auto f = [&labels, kind](std::span<const Tensor> x) {
      // Two losses of the same intermediate: one overwrites, one adds.
      const Tensor z = scale(x[0], 2);
      const Tensor label = view(labels, {4});
      return multiply(cross_entropy(z, label, kind, 3), cross_entropy(z, label, kind, 7));
    };
    CHECK(gradcheck(f, {Shape{4, 3}}).ok());
    const auto many = labels_for(300, 101);
    CHECK(test::gradcheck_along(loss_of(many, kind, 300), {Shape{300, 101}}).ok());
  }
}

TEST_CASE("cross_entropy: micro-batches add up to the mean of the batch") {
  for (const CrossEntropy kind : kKinds) {
    const auto labels = labels_for(6, 4);
    const auto x = values<double>(24, 1);
    const auto whole = run_op<double>(loss_of(labels, kind, 6), {Shape{6, 4}}, {x}, {1.0});
    double loss = 0;
    std::vector<double> grad;
    for (int part = 0; part < 2; ++part) {
      const std::vector<int32_t> some(labels.begin() + 3 * part, labels.begin() + 3 * part + 3);
      const std::vector<double> rows(x.begin() + 12 * part, x.begin() + 12 * part + 12);
      const auto run = run_op<double>(loss_of(some, kind, 6), {Shape{3, 4}}, {rows}, {1.0});
      loss += run.y[0];
      grad.insert(grad.end(), run.grads[0].begin(), run.grads[0].end());
    }
    CHECK(loss == doctest::Approx(whole.y[0]).epsilon(1e-14));
    CHECK(grad == whole.grads[0]);
  }
}

TEST_CASE("cross_entropy: no rows have no loss") {
  const std::vector<int32_t> labels;
  CHECK(run_op<float>(loss_of(labels, CrossEntropy::kSoftmax, 1), {Shape{0, 4}}).y[0] == 0);
}

TEST_CASE("cross_entropy: same bits for any number of threads") {
  for (const CrossEntropy kind : kKinds) {
    const auto labels = labels_for(1000, 101);
    CHECK(test::op_same_bits_for_threads<float>(loss_of(labels, kind, 1000), {Shape{1000, 101}}));
  }
}

TEST_CASE("cross_entropy: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(6), none;
  const auto on = [&](const Shape& shape) { return tape.input(view(v, shape)); };
  const auto loss = [&](const Tensor& x, const std::vector<int32_t>& labels, double denominator) {
    return caught([&] {
      cross_entropy(x, view(labels, {static_cast<int64_t>(labels.size())}), CrossEntropy::kSoftmax,
                    denominator);
    });
  };
  CHECK(loss(on({2, 3}), {0, 2}, 1).kind == std::nullopt);
  CHECK(loss(on({2, 3}), {0, 3}, 1).is(ErrorKind::kValue, {"label 3", "row 1", "3 classes"}));
  CHECK(loss(on({2, 3}), {-1, 0}, 1).is(ErrorKind::kValue, {"label -1", "row 0"}));
  CHECK(loss(on({2, 3}), {0, 1, 2}, 1).is(ErrorKind::kShape, {"(2,3)", "(3)"}));
  CHECK(loss(on({6}), {0}, 1).is(ErrorKind::kShape, {"(6)"}));
  CHECK(loss(tape.input(view(none, {2, 0})), {0, 0}, 1).is(ErrorKind::kShape, {"(2,0)"}));
  CHECK(loss(on({2, 3}), {0, 1}, 0).is(ErrorKind::kValue, {"denominator", "0"}));
  CHECK(loss(on({2, 3}), {0, 1}, -2).is(ErrorKind::kValue, {"-2"}));
  CHECK(loss(on({2, 3}), {0, 1}, std::nan("")).is(ErrorKind::kValue));
  CHECK(loss(view(v, {2, 3}), {0, 1}, 1).is(ErrorKind::kValue, {"tape"}));
  const std::vector<float> wrong(2);
  CHECK(caught([&] {
          cross_entropy(on({2, 3}), view(wrong, {2}), CrossEntropy::kSoftmax, 1);
        }).is(ErrorKind::kDtype, {"i32", "f32"}));
}

TEST_CASE("soft_cross_entropy: one-hot targets are labels, others are sums of labels") {
  constexpr int64_t kRows = 9, kCols = 7;
  const auto first = labels_for(kRows, kCols);
  std::vector<int32_t> second(first);
  for (int32_t& label : second) label = (label + 2) % kCols;
  std::vector<double> targets(kRows * kCols, 0), onehot(kRows * kCols, 0);
  for (int64_t r = 0; r < kRows; ++r) {
    onehot[r * kCols + first[r]] = 1;
    targets[r * kCols + first[r]] += 0.7;
    targets[r * kCols + second[r]] += 0.3;
  }
  const Shape shape{kRows, kCols};
  for (const CrossEntropy kind : kKinds) {
    const auto soft = [&](const std::vector<double>& t) {
      return run_op<double>(
          [&](std::span<const Tensor> x) {
            return soft_cross_entropy(x[0], view(t, shape), kind, kRows);
          },
          {shape});
    };
    const auto a = run_op<double>(loss_of(first, kind, kRows), {shape}),
               b = run_op<double>(loss_of(second, kind, kRows), {shape});
    CHECK(std::abs(soft(onehot).y[0] - a.y[0]) < 1e-14);
    CHECK(test::distance(soft(onehot).grads[0], a.grads[0]) < 1e-15);
    const auto mixed = soft(targets);
    CHECK(std::abs(mixed.y[0] - (0.7 * a.y[0] + 0.3 * b.y[0])) < 1e-14);
    for (size_t i = 0; i < mixed.grads[0].size(); ++i) {
      CHECK(std::abs(mixed.grads[0][i] - (0.7 * a.grads[0][i] + 0.3 * b.grads[0][i])) < 1e-15);
    }
  }
}

TEST_CASE("soft_cross_entropy: gradient, several positives, and what does not fit") {
  const Shape shape{5, 6};
  const auto several = values<double>(shape.numel(), 3, 2);
  for (const CrossEntropy kind : kKinds) {
    const auto loss = [&](std::span<const Tensor> x) {
      return soft_cross_entropy(x[0], view(several, shape), kind, 3);
    };
    const auto report = gradcheck(loss, {shape});
    CHECK_MESSAGE(report.ok(), report);
  }
  StepArena arena;
  Tape tape(arena);
  const Tensor x = tape.input(view(several, shape));
  const std::vector<float> narrow(30);
  CHECK(caught([&] {
          soft_cross_entropy(x, view(several, {6, 5}), CrossEntropy::kSoftmax, 1);
        }).is(ErrorKind::kShape, {"soft_cross_entropy", "(5,6)", "(6,5)"}));
  CHECK(caught([&] {
          soft_cross_entropy(x, view(narrow, shape), CrossEntropy::kSoftmax, 1);
        }).is(ErrorKind::kShape, {"f32"}));
  CHECK(caught([&] {
          soft_cross_entropy(x, x, CrossEntropy::kSoftmax, 0);
        }).is(ErrorKind::kValue, {"denominator"}));
}
