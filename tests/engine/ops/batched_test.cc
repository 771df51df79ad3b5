#include "engine/ops/batched.h"

#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "engine/core/precision.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

Tensor product(std::span<const Tensor> x) { return batched_matmul(x[0], x[1]); }
Tensor transposed(std::span<const Tensor> x) { return transpose(x[0]); }

}  // namespace

TEST_CASE("batched_matmul: matches plain loops") {
  for (const auto& [b, m, k, n] : std::vector<std::array<int64_t, 4>>{
           {1, 1, 1, 1}, {3, 2, 5, 4}, {2, 17, 9, 33}, {5, 8, 65, 48}, {2, 3, 1, 7}}) {
    const auto a = values<double>(b * m * k, 1), x = values<double>(b * k * n, 2);
    std::vector<double> want(static_cast<size_t>(b * m * n), 0);
    for (int64_t i = 0; i < b * m; ++i) {
      for (int64_t l = 0; l < k; ++l) {
        for (int64_t j = 0; j < n; ++j) {
          want[i * n + j] += a[i * k + l] * x[(i / m * k + l) * n + j];
        }
      }
    }
    const std::vector<Shape> shapes = {{b, m, k}, {b, k, n}};
    CHECK(distance(run_op<double>(product, shapes, {a, x}).y, want) < 1e-13);
    CHECK(distance(run_op<float>(product, shapes).y, want) < 1e-5);
  }
}

TEST_CASE("transpose: matches plain loops, and twice is nothing") {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{3, 7}, Shape{2, 16, 17}, Shape{3, 40, 5}, Shape{2, 0, 3}}) {
    CAPTURE(shape);
    const int64_t rows = shape[-2], cols = shape[-1];
    const auto x = values<double>(shape.numel(), 1);
    const auto y = run_op<double>(transposed, {shape}, {x}).y;
    bool right = y.size() == x.size();
    for (int64_t i = 0; i < shape.numel(); ++i) {
      const int64_t b = i / (rows * cols), r = i / cols % rows, c = i % cols;
      right = right && y[b * rows * cols + c * rows + r] == x[i];
    }
    CHECK(right);
    const auto twice = [](std::span<const Tensor> t) { return transpose(transpose(t[0])); };
    CHECK(run_op<double>(twice, {shape}, {x}).y == x);
  }
}

TEST_CASE("batched_matmul, transpose: gradient") {
  for (const std::vector<Shape>& shapes :
       {std::vector<Shape>{{1, 1, 1}, {1, 1, 1}}, {{2, 3, 4}, {2, 4, 5}}, {{3, 1, 6}, {3, 6, 2}}}) {
    const auto report = gradcheck(product, shapes);
    CHECK_MESSAGE(report.ok(), report);
  }
  CHECK(gradcheck(transposed, {Shape{3, 4}}).ok());
  CHECK(gradcheck(transposed, {Shape{2, 3, 5}}).ok());
  CHECK(test::gradcheck_along(product, {{4, 33, 18}, {4, 18, 40}}).ok());
  CHECK(test::gradcheck_along(transposed, {Shape{3, 40, 33}}).ok());
  // Both factors the same tensor, and targets that already hold something.
  const auto square = [](std::span<const Tensor> x) {
    return batched_matmul(batched_matmul(x[0], transpose(x[0])), x[0]);
  };
  CHECK(gradcheck(square, {Shape{2, 3, 4}}).ok());
}

TEST_CASE("batched_matmul, transpose: same bits for any number of threads and any batch") {
  CHECK(test::op_same_bits_for_threads<float>(product, {{37, 20, 17}, {37, 17, 48}}));
  CHECK(test::op_same_bits_for_threads<float>(transposed, {Shape{37, 20, 517}}));
  const auto mixed = [](std::span<const Tensor> x) {
    return batched_matmul(transpose(x[0]), x[0]);
  };
  CHECK(test::batch_shows_nowhere<float>(mixed, Shape{9, 42}, {}));
}

TEST_CASE("batched_matmul: in bf16 the operands of all three products are rounded") {
  const std::vector<Shape> shapes = {{3, 20, 40}, {3, 40, 17}};
  const auto rounded = [](std::vector<float> v) {
    for (float& x : v) x = to_float(to_bf16(x));
    return v;
  };
  const std::vector<std::vector<float>> in = {values<float>(shapes[0].numel(), 1),
                                              values<float>(shapes[1].numel(), 2)};
  const auto cotangent = values<float>(3 * 20 * 17, 3);
  const auto got = run_op<float>(
      [](std::span<const Tensor> x) { return batched_matmul(x[0], x[1], Precision::kBf16); },
      shapes, in, cotangent);
  const auto want =
      run_op<float>(product, shapes, {rounded(in[0]), rounded(in[1])}, rounded(cotangent));
  const auto f32 = run_op<float>(product, shapes, in, cotangent);
  CHECK(distance(got.y, want.y) < 1e-6);
  CHECK(distance(got.y, f32.y) > 1e-4);
  for (size_t k = 0; k < 2; ++k) {
    CHECK(distance(got.grads[k], want.grads[k]) < 1e-6);
    CHECK(distance(got.grads[k], f32.grads[k]) > 1e-4);
  }
}

TEST_CASE("batched_matmul, transpose: reject what they cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(12);
  const Tensor a = tape.input(view(v, {2, 3, 2})), b = tape.input(view(v, {2, 2, 3}));
  const Tensor other = tape.input(view(v, {1, 2, 6})), row = tape.input(view(v, {12}));
  CHECK(batched_matmul(a, b).shape() == Shape{2, 3, 3});
  for (const Tensor& x : {a, other, row}) {
    CHECK(caught([&] { batched_matmul(a, x); }).is(ErrorKind::kShape, {"batched_matmul"}));
  }
  CHECK(caught([&] {
          batched_matmul(view(v, {2, 3, 2}), b);
        }).is(ErrorKind::kValue, {"batched_matmul", "tape"}));
  CHECK(caught([&] { transpose(row); }).is(ErrorKind::kShape, {"transpose", "(12)"}));
  CHECK(caught([&] { transpose(view(v, {3, 4})); }).is(ErrorKind::kValue, {"transpose", "tape"}));
}
