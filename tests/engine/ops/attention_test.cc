#include "engine/ops/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/ops/pointwise.h"
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

test::Function attention_of(int64_t heads) {
  return [heads](std::span<const Tensor> x) { return attention(x[0], heads); };
}

struct Sizes {
  int64_t batch, tokens, heads, dim;
  Shape shape() const { return {batch, tokens, 3 * heads * dim}; }
};

template <class T>
std::vector<double> naive_attention(const std::vector<T>& qkv, const Sizes& s) {
  const int64_t width = s.heads * s.dim;
  std::vector<double> y(static_cast<size_t>(s.batch * s.tokens * width), 0);
  const auto at = [&](int64_t b, int64_t t, int64_t part, int64_t h, int64_t d) {
    return static_cast<double>(qkv[((b * s.tokens + t) * 3 + part) * width + h * s.dim + d]);
  };
  std::vector<double> p(static_cast<size_t>(s.tokens));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t t = 0; t < s.tokens; ++t) {
        double sum = 0;
        for (int64_t o = 0; o < s.tokens; ++o) {
          p[o] = 0;
          for (int64_t d = 0; d < s.dim; ++d) p[o] += at(b, t, 0, h, d) * at(b, o, 1, h, d);
        }
        const double top = *std::max_element(p.begin(), p.end());
        for (double& score : p) {
          score = std::exp((score - top) / std::sqrt(double(s.dim)));
          sum += score;
        }
        for (int64_t o = 0; o < s.tokens; ++o) {
          for (int64_t d = 0; d < s.dim; ++d) {
            y[(b * s.tokens + t) * width + h * s.dim + d] += p[o] / sum * at(b, o, 2, h, d);
          }
        }
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("attention: matches a naive f64 reference") {
  for (const Sizes& s :
       {Sizes{1, 1, 1, 1}, Sizes{2, 1, 2, 3}, Sizes{1, 7, 1, 5}, Sizes{2, 8, 3, 8},
        Sizes{3, 9, 2, 17}, Sizes{2, 65, 3, 64}, Sizes{1, 197, 2, 33}, Sizes{0, 4, 1, 2}}) {
    CAPTURE(s.shape());
    const auto x = values<float>(s.shape().numel(), 1, 2);
    const auto xd = values<double>(s.shape().numel(), 1, 2);
    CHECK(distance(run_op<float>(attention_of(s.heads), {s.shape()}, {x}).y,
                   naive_attention(x, s)) < 4e-6);
    CHECK(distance(run_op<double>(attention_of(s.heads), {s.shape()}, {xd}).y,
                   naive_attention(xd, s)) < 1e-13);
  }
}

TEST_CASE("attention: large scores do not overflow") {
  const Sizes s{1, 5, 1, 4};
  const auto x = values<float>(s.shape().numel(), 1, 60);
  const auto y = run_op<float>(attention_of(1), {s.shape()}, {x});
  CHECK(distance(y.y, naive_attention(x, s)) < 1e-3);  // scores of 3600 / 2 in f32
  bool finite = true;
  for (const float g : y.grads[0]) finite &= std::isfinite(g);
  CHECK(finite);
}

TEST_CASE("attention: gradient") {
  for (const Sizes& s : {Sizes{1, 1, 1, 1}, Sizes{1, 3, 1, 2}, Sizes{2, 4, 2, 3}, Sizes{1, 9, 1, 1},
                         Sizes{1, 2, 3, 5}}) {
    const auto report = gradcheck(attention_of(s.heads), {s.shape()});
    CHECK_MESSAGE(report.ok(), report);
  }
  const auto report = test::gradcheck_along(attention_of(3), {Shape{2, 65, 3 * 3 * 20}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("attention: gradient overwrites and adds") {
  const auto twice = [](std::span<const Tensor> x) {
    const Tensor y = scale(x[0], 2);
    return add(attention(y, 1), attention(y, 2));
  };
  const auto report = gradcheck(twice, {Shape{2, 3, 12}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("attention: same bits for any number of threads") {
  CHECK(test::op_same_bits_for_threads<float>(attention_of(3), {Shape{4, 65, 3 * 3 * 20}}));
  CHECK(test::op_same_bits_for_threads<double>(attention_of(2), {Shape{3, 17, 3 * 2 * 5}}));
}

TEST_CASE("attention: same bits in batches of 1 and 7 and 256") {
  CHECK(test::batch_shows_nowhere<float>(attention_of(2), {17, 3 * 2 * 12}, {}));
  CHECK(test::batch_shows_nowhere<double>(attention_of(1), {5, 3 * 7}, {}));
}

TEST_CASE("attention: in bf16 close to f32, the same bits in any company") {
  const test::Function in_bf16 = [](std::span<const Tensor> x) {
    return attention(x[0], 2, Precision::kBf16);
  };
  for (const Sizes& s : {Sizes{2, 65, 2, 64}, Sizes{3, 17, 2, 20}, Sizes{1, 1, 2, 3}}) {
    const auto x = values<float>(s.shape().numel(), 1, 2);
    const auto got = run_op<float>(in_bf16, {s.shape()}, {x});
    const auto f32 = run_op<float>(attention_of(2), {s.shape()}, {x});
    CHECK(distance(got.y, f32.y) < 1e-2);
    CHECK(distance(got.y, f32.y) > 1e-5);
    CHECK(distance(got.grads[0], f32.grads[0]) < 2e-2);
  }
  CHECK(test::op_same_bits_for_threads<float>(in_bf16, {Shape{4, 65, 3 * 2 * 20}}));
  CHECK(test::batch_shows_nowhere<float>(in_bf16, {17, 3 * 2 * 12}, {}));
}

TEST_CASE("attention: in bf16 the operands of its products are rounded") {
  // One token: p = 1, so y is v rounded, dv the cotangent rounded, and dq = dk = 0.
  const auto x = values<float>(12, 1);
  const auto got = run_op<float>(
      [](std::span<const Tensor> in) { return attention(in[0], 1, Precision::kBf16); },
      {Shape{1, 1, 12}}, {x});
  const auto dy = values<float>(4, 1000);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(got.y[i] == to_float(to_bf16(x[8 + i])));
    CHECK(got.grads[0][8 + i] == to_float(to_bf16(dy[i])));
    CHECK(got.grads[0][i] == 0);
  }
}

TEST_CASE("attention: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> v(24);
  const Tensor x = tape.input(view(v, {1, 2, 12}));
  CHECK(caught([&] { attention(x, 3); }).is(ErrorKind::kShape, {"attention", "3", "(1,2,12)"}));
  CHECK(caught([&] { attention(x, 0); }).is(ErrorKind::kShape, {"0"}));
  CHECK(caught([&] { attention(x, -2); }).is(ErrorKind::kShape, {"-2"}));
  CHECK(caught([&] {
          attention(tape.input(view(v, {2, 12})), 1);
        }).is(ErrorKind::kShape, {"(2,12)"}));
  CHECK(caught([&] { attention(view(v, {1, 2, 12}), 2); }).is(ErrorKind::kValue, {"tape"}));
  const std::vector<double> wide(4 * 24);  // several heads: refused before any thread begins
  const test::Threads scope(2);
  CHECK(caught([&] {
          attention(tape.input(view(wide, {4, 2, 12})), 2, Precision::kBf16);
        }).is(ErrorKind::kDtype, {"bf16", "f64"}));
  const std::vector<int32_t> i(24);
  CHECK(caught([&] { attention(tape.input(view(i, {1, 2, 12})), 2); }).is(ErrorKind::kDtype));
}
