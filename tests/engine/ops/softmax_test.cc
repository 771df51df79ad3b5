#include "engine/ops/softmax.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/config.h"
#include "engine/ops/softmax_kernels.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::batch_shows_nowhere;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

Tensor softmax_of(std::span<const Tensor> x) { return softmax(x[0]); }

template <class T>
std::vector<double> naive_softmax(const std::vector<T>& x, RowsCols size) {
  std::vector<double> y(x.size());
  for (int64_t r = 0; r < size.rows; ++r) {
    double top = x[r * size.cols], sum = 0;
    for (int64_t c = 0; c < size.cols; ++c) top = std::max<double>(top, x[r * size.cols + c]);
    for (int64_t c = 0; c < size.cols; ++c) sum += std::exp(x[r * size.cols + c] - top);
    for (int64_t c = 0; c < size.cols; ++c) {
      y[r * size.cols + c] = std::exp(x[r * size.cols + c] - top) / sum;
    }
  }
  return y;
}

}  // namespace

TEST_CASE("softmax: matches a naive f64 reference") {
  for (const Shape& shape :
       {Shape{1}, Shape{1, 1}, Shape{3, 7}, Shape{2, 3, 8}, Shape{9, 9}, Shape{4, 15}, Shape{4, 16},
        Shape{4, 17}, Shape{5, 197}, Shape{64, 1000}, Shape{3, 20'000}, Shape{0, 4}}) {
    CAPTURE(shape);
    const auto x = values<float>(shape.numel(), 7, 10);
    const auto xd = values<double>(shape.numel(), 7, 10);
    const RowsCols size = fold_rows(shape);
    CHECK(distance(run_op<float>(softmax_of, {shape}, {x}).y, naive_softmax(x, size)) < 1e-6);
    CHECK(distance(run_op<double>(softmax_of, {shape}, {xd}).y, naive_softmax(xd, size)) < 1e-14);
  }
}

TEST_CASE("softmax: small probabilities are right relative to themselves") {
  const auto x = values<float>(50 * 37, 3, 30);
  const auto y = run_op<float>(softmax_of, {Shape{50, 37}}, {x}).y;
  const auto want = naive_softmax(x, {50, 37});
  double worst = 0;
  for (size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::abs(y[i] / want[i] - 1));
  CHECK(worst < 2e-5);  // exp(-60) of an f32 difference: 60 * 2^-24 and a little
}

TEST_CASE("softmax: every row sums to 1") {
  const auto y = run_op<float>(softmax_of, {Shape{300, 91}}, 20).y;
  for (size_t r = 0; r < 300; ++r) {
    double sum = 0;
    for (size_t c = 0; c < 91; ++c) sum += y[r * 91 + c];
    CHECK(std::abs(sum - 1) < 1e-6);
  }
}

TEST_CASE("softmax: large and -inf logits") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const int64_t cols : {4, 16, 19}) {
    std::vector<float> x(static_cast<size_t>(cols), -inf);
    x[0] = x[1] = 1e4f;
    x[2] = -1e4f;
    const auto y = run_op<float>(softmax_of, {Shape{1, cols}}, {x}).y;
    CHECK(y[0] == doctest::Approx(0.5));
    CHECK(y[1] == y[0]);
    for (int64_t c = 2; c < cols; ++c) CHECK(std::abs(y[c]) < 1e-37f);
  }
}

TEST_CASE("softmax: gradient") {
  for (const Shape& shape : {Shape{1}, Shape{1, 1}, Shape{4, 5}, Shape{2, 3, 6}, Shape{2, 17}}) {
    const auto report = gradcheck(softmax_of, {shape});
    CHECK_MESSAGE(report.ok(), report);
  }
  // Leaves accumulate, intermediates overwrite: chaining covers both.
  const auto twice = [](std::span<const Tensor> x) { return softmax(softmax(x[0])); };
  CHECK(gradcheck(twice, {Shape{3, 4}}).ok());
  CHECK(test::gradcheck_along(softmax_of, {Shape{200, 197}}).ok());
}

TEST_CASE("softmax: backward overwrites or adds") {
  const double y[2] = {0.25, 0.75}, dy[2] = {1, 0};
  double dx[2] = {10, 10};
  kernels::softmax_backward(Cpu{}, y, dy, dx, {1, 2}, GradWrite::kAccumulate);
  CHECK(dx[0] == doctest::Approx(10.1875));
  CHECK(dx[1] == doctest::Approx(9.8125));
  kernels::softmax_backward(Cpu{}, y, dy, dx, {1, 2}, GradWrite::kOverwrite);
  CHECK(dx[0] == doctest::Approx(0.1875));
}

TEST_CASE("softmax: forward may write over its input") {
  const auto x = values<float>(5 * 37, 2, 4);
  auto in_place = x;
  std::vector<float> apart(x.size());
  kernels::softmax_forward(Cpu{}, x.data(), apart.data(), {5, 37});
  kernels::softmax_forward(Cpu{}, in_place.data(), in_place.data(), {5, 37});
  CHECK(test::same_bytes(in_place, apart));
}

TEST_CASE("softmax: same bits for any number of threads") {
  CHECK(test::op_same_bits_for_threads<float>(softmax_of, {Shape{513, 197}}));
  CHECK(test::op_same_bits_for_threads<double>(softmax_of, {Shape{1000, 33}}));
}

TEST_CASE("softmax: same bits in batches of 1 and 7 and 256") {
  for (const Shape& item : {Shape{10}, Shape{197}, Shape{3, 7}}) {
    CHECK(batch_shows_nowhere<float>(softmax_of, item, {}));
    CHECK(batch_shows_nowhere<double>(softmax_of, item, {}));
  }
}

TEST_CASE("softmax: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(1);
  std::vector<int32_t> i(1);
  std::vector<float> none;
  CHECK(caught([&] { softmax(tape.input(view(v, {}))); }).is(ErrorKind::kShape, {"softmax", "()"}));
  CHECK(caught([&] {
          softmax(tape.input(view(none, {3, 0})));
        }).is(ErrorKind::kShape, {"softmax", "(3,0)"}));
  CHECK(caught([&] { softmax(view(v, {1, 1})); }).is(ErrorKind::kValue, {"softmax", "tape"}));
  CHECK(caught([&] { softmax(tape.input(view(i, {1}))); }).is(ErrorKind::kDtype, {"i32"}));
  const Tensor cuda(v.data(), {1, 1}, Dtype::kF32, Device::kCuda);
  if (!kCudaEnabled) CHECK(caught([&] { softmax(tape.input(cuda)); }).is(ErrorKind::kDevice));
}
