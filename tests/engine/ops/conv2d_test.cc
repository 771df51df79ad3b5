#include "engine/ops/conv2d.h"

#include <doctest/doctest.h>

#include <limits>
#include <ostream>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/support/heap_counter.h"

using namespace engine;
using engine::test::caught;
using engine::test::distance;
using engine::test::gradcheck;
using engine::test::gradcheck_along;
using engine::test::run_op;
using engine::test::values;
using engine::test::view;

namespace {

struct Case {
  Shape x;
  int64_t out, kernel, stride, padding;
  bool bias = false;

  Shape weight() const { return {kernel, kernel, x[3], out}; }
  std::vector<Shape> shapes() const {
    std::vector<Shape> all = {x, weight()};
    if (bias) all.push_back({out});
    return all;
  }
  test::Function op(Precision precision = Precision::kF32) const {
    return [*this, precision](std::span<const Tensor> in) {
      return conv2d(in[0], in[1], bias ? in[2] : Tensor{}, {stride, padding, precision});
    };
  }
};
std::ostream& operator<<(std::ostream& os, const Case& c) {
  return os << c.x << " to " << c.out << ", kernel " << c.kernel << ", stride " << c.stride
            << ", padding " << c.padding;
}

// y, and the gradients of x, weight and bias for the cotangent dy, by the definition.
struct Naive {
  std::vector<double> y, dx, dw, db;
};
template <class T>
Naive naive_conv(const Case& c, const std::vector<std::vector<T>>& in, const std::vector<T>& dy) {
  const int64_t h = c.x[1], w = c.x[2], channels = c.x[3];
  const int64_t oh = (h + 2 * c.padding - c.kernel) / c.stride + 1;
  const int64_t ow = (w + 2 * c.padding - c.kernel) / c.stride + 1;
  Naive out{std::vector<double>(static_cast<size_t>(c.x[0] * oh * ow * c.out)),
            std::vector<double>(in[0].size()), std::vector<double>(in[1].size()),
            std::vector<double>(static_cast<size_t>(c.out))};
  for (int64_t b = 0; b < c.x[0]; ++b) {
    for (int64_t i = 0; i < oh; ++i) {
      for (int64_t j = 0; j < ow; ++j) {
        for (int64_t n = 0; n < c.out; ++n) {
          const int64_t at = ((b * oh + i) * ow + j) * c.out + n;
          double sum = c.bias ? in[2][n] : 0;
          out.db[n] += dy[at];
          for (int64_t u = 0; u < c.kernel; ++u) {
            for (int64_t v = 0; v < c.kernel; ++v) {
              const int64_t y = i * c.stride + u - c.padding, x = j * c.stride + v - c.padding;
              if (y < 0 || y >= h || x < 0 || x >= w) continue;
              for (int64_t k = 0; k < channels; ++k) {
                const int64_t from = ((b * h + y) * w + x) * channels + k;
                const int64_t by = ((u * c.kernel + v) * channels + k) * c.out + n;
                sum += double(in[0][from]) * double(in[1][by]);
                out.dx[from] += double(dy[at]) * double(in[1][by]);
                out.dw[by] += double(dy[at]) * double(in[0][from]);
              }
            }
          }
          out.y[at] = sum;
        }
      }
    }
  }
  return out;
}

template <class T>
void check_against_naive(const Case& c, double tolerance) {
  CAPTURE(c);
  std::vector<std::vector<T>> in;
  for (const Shape& s : c.shapes()) in.push_back(values<T>(s.numel(), in.size() + 1));
  const auto run = run_op<T>(c.op(), c.shapes(), in);
  const Naive expected = naive_conv(c, in, values<T>(static_cast<int64_t>(run.y.size()), 1000));
  CHECK(distance(run.y, expected.y) < tolerance);
  CHECK(distance(run.grads[0], expected.dx) < tolerance);
  CHECK(distance(run.grads[1], expected.dw) < tolerance);
  if (c.bias) CHECK(distance(run.grads[2], expected.db) < tolerance);
}

// Every kernel, strides that do and do not divide, padding of none, "same" and more; channels that
// fill registers, do not, and are fewer than a strip; more rows than a task, more of k than a
// block, and weights on both sides of where their gradient is cut another way.
const std::vector<Case> kCases = {
    {{1, 1, 1, 1}, 1, 1, 1, 0, true},   {{2, 5, 4, 3}, 7, 1, 1, 0, true},
    {{2, 5, 6, 8}, 5, 1, 2, 0},         {{2, 5, 6, 8}, 5, 1, 1, 1, true},
    {{2, 6, 5, 3}, 16, 3, 1, 1, true},  {{1, 7, 8, 16}, 49, 3, 2, 1},
    {{2, 4, 4, 20}, 24, 3, 1, 1},       {{3, 9, 9, 5}, 6, 3, 3, 0, true},
    {{2, 8, 8, 33}, 17, 5, 1, 2},       {{1, 11, 10, 4}, 3, 5, 2, 3},
    {{1, 17, 16, 3}, 8, 7, 2, 3, true}, {{1, 9, 9, 2}, 2, 11, 4, 2},
    {{3, 10, 10, 40}, 50, 3, 1, 1},     {{2, 3, 3, 64}, 100, 3, 2, 1},
    {{1, 2, 2, 300}, 20, 3, 1, 1},      {{1, 3, 40, 2}, 3, 3, 4, 1},
    {{1, 6, 6, 8}, 4, 2, 2, 0},         {{0, 4, 4, 3}, 5, 3, 1, 1, true},
};

}  // namespace

TEST_CASE("conv2d: matches a naive f64 reference, with the gradients of all inputs") {
  for (const Case& c : kCases) {
    check_against_naive<double>(c, 1e-12);
    check_against_naive<float>(c, 3e-5);
  }
}

TEST_CASE("conv2d: larger than a task, a chunk of rows and a small weight gradient") {
  check_against_naive<float>({{3, 33, 30, 32}, 40, 3, 1, 1}, 1e-4);    // 2,970 rows
  check_against_naive<float>({{2, 12, 12, 160}, 150, 3, 1, 1}, 1e-4);  // 864 KB of weights
  check_against_naive<double>({{1, 9, 7, 150}, 80, 3, 2, 1}, 1e-11);
}

TEST_CASE("conv2d: gradient of every input") {
  for (const Case& c : {Case{{2, 3, 4, 2}, 3, 3, 1, 1, true}, Case{{1, 5, 4, 2}, 2, 3, 2, 1, true},
                        Case{{2, 3, 3, 3}, 2, 1, 1, 0, true}, Case{{1, 4, 5, 2}, 2, 1, 2, 0},
                        Case{{1, 6, 6, 1}, 2, 5, 3, 2}, Case{{1, 3, 4, 2}, 1, 2, 1, 0}}) {
    CAPTURE(c);
    const auto report = gradcheck(c.op(), c.shapes());
    CHECK_MESSAGE(report.ok(), report);
  }
  for (const Case& c : {Case{{2, 9, 8, 20}, 50, 3, 1, 1}, Case{{2, 17, 16, 12}, 24, 7, 2, 3}}) {
    CAPTURE(c);
    const auto report = gradcheck_along(c.op(), c.shapes());
    CHECK_MESSAGE(report.ok(), report);
  }
}

TEST_CASE("conv2d: gradient through a chain, with an input and a weight used twice") {
  const auto f = [](std::span<const Tensor> x) {
    const Tensor w = scale(x[1], 2);
    const Tensor a = conv2d(x[0], w, {}, {1, 1});
    const Tensor b = conv2d(a, w, x[2], {1, 1});
    return conv2d(add(a, b), x[1], x[2], {2, 1});
  };
  const auto report = gradcheck(f, {Shape{1, 4, 3, 2}, Shape{3, 3, 2, 2}, Shape{2}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("conv2d: gradient when only some inputs want one") {
  const auto x = values<double>(2 * 4 * 4 * 3, 5);
  const auto w = values<double>(3 * 3 * 3 * 2, 6);
  const auto x_only = [&](std::span<const Tensor> in) {
    return conv2d(in[0], view(w, {3, 3, 3, 2}), {}, {2, 1});
  };
  CHECK(gradcheck(x_only, {Shape{2, 4, 4, 3}}).ok());
  const auto w_only = [&](std::span<const Tensor> in) {
    return conv2d(in[0].tape()->input(view(x, {2, 4, 4, 3})), in[0], {}, {2, 1});
  };
  CHECK(gradcheck(w_only, {Shape{3, 3, 3, 2}}).ok());
}

TEST_CASE("conv2d: same bits for any number of threads") {
  for (const Case& c : {Case{{5, 9, 9, 20}, 50, 3, 1, 1, true}, Case{{3, 16, 15, 3}, 20, 7, 2, 3},
                        Case{{2, 8, 8, 150}, 150, 3, 1, 1}, Case{{7, 20, 20, 6}, 8, 3, 2, 1}}) {
    CAPTURE(c);
    CHECK(test::op_same_bits_for_threads<float>(c.op(), c.shapes()));
    CHECK(test::op_same_bits_for_threads<double>(c.op(), c.shapes()));
    CHECK(test::op_same_bits_for_threads<float>(c.op(Precision::kBf16), c.shapes()));
  }
}

TEST_CASE("conv2d: same bits in batches of 1 and 7 and 256") {
  for (const Case& c : {Case{{1, 5, 5, 6}, 20, 3, 1, 1}, Case{{1, 7, 6, 4}, 8, 3, 2, 1},
                        Case{{1, 3, 3, 8}, 8, 1, 2, 0}, Case{{1, 3, 3, 8}, 50, 1, 1, 0}}) {
    CAPTURE(c);
    const Shape item{c.x[1], c.x[2], c.x[3]};
    CHECK(test::batch_shows_nowhere<float>(c.op(), item, {c.weight()}));
    CHECK(test::batch_shows_nowhere<double>(c.op(), item, {c.weight()}));
    CHECK(test::batch_shows_nowhere<float>(c.op(Precision::kBf16), item, {c.weight()}));
  }
}

TEST_CASE("conv2d: in bf16 the operands are rounded, the sums are not") {
  for (const Case& c : {Case{{2, 6, 5, 20}, 24, 3, 1, 1}, Case{{2, 6, 7, 20}, 24, 3, 2, 1},
                        Case{{2, 6, 7, 20}, 24, 1, 1, 0}}) {
    CAPTURE(c);
    // Numbers that bf16 holds: f32 and bf16 agree to the order of sums.
    std::vector<std::vector<float>> in;
    const auto rounded = [](std::vector<float> v) {
      for (float& x : v) x = to_float(to_bf16(x));
      return v;
    };
    for (const Shape& s : c.shapes()) in.push_back(rounded(values<float>(s.numel(), in.size())));
    const auto first = run_op<float>(c.op(), c.shapes(), in);
    const auto dy = rounded(values<float>(static_cast<int64_t>(first.y.size()), 9));
    const auto f32 = run_op<float>(c.op(), c.shapes(), in, dy);
    const auto bf16 = run_op<float>(c.op(Precision::kBf16), c.shapes(), in, dy);
    CHECK(distance(bf16.y, f32.y) < 1e-6);
    CHECK(distance(bf16.grads[0], f32.grads[0]) < 1e-6);
    CHECK(distance(bf16.grads[1], f32.grads[1]) < 1e-5);
    // Others are those of the rounded operands, and not those of f32.
    for (size_t k = 0; k < in.size(); ++k) in[k] = values<float>(c.shapes()[k].numel(), k + 20);
    auto operands = in;
    for (auto& v : operands) v = rounded(v);
    const auto of_rounded = run_op<float>(c.op(), c.shapes(), operands, dy);
    const auto of_bf16 = run_op<float>(c.op(Precision::kBf16), c.shapes(), in, dy);
    const auto of_f32 = run_op<float>(c.op(), c.shapes(), in, dy);
    CHECK(distance(of_bf16.y, of_rounded.y) < 1e-6);
    CHECK(distance(of_bf16.grads[0], of_rounded.grads[0]) < 1e-6);
    CHECK(distance(of_bf16.grads[1], of_rounded.grads[1]) < 1e-5);
    CHECK(distance(of_bf16.y, of_f32.y) > 1e-4);
  }
}

TEST_CASE("conv2d: what lies outside is zero and not a neighbour") {
  // A NaN in one picture stays in it, and reaches exactly the outputs that see it.
  const Case c{{3, 4, 4, 2}, 3, 3, 1, 1};
  std::vector<std::vector<float>> in = {values<float>(c.x.numel(), 1),
                                        values<float>(c.weight().numel(), 2)};
  in[0][static_cast<size_t>(((1 * 4 + 3) * 4 + 3) * 2)] = std::numeric_limits<float>::quiet_NaN();
  const auto y = run_op<float>(c.op(), c.shapes(), in).y;
  for (int64_t b = 0; b < 3; ++b) {
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 4; ++j) {
        const bool sees = b == 1 && i >= 2 && j >= 2;
        CHECK(std::isnan(y[static_cast<size_t>(((b * 4 + i) * 4 + j) * 3)]) == sees);
      }
    }
  }
}

TEST_CASE("conv2d: a warm step makes no heap allocation" *
          doctest::skip(!test::HeapCounter::available())) {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> x = values<float>(2 * 9 * 9 * 20, 1), w = values<float>(9 * 20 * 20, 2);
  std::vector<float> dx(x.size()), dw(w.size()), dy(2 * 5 * 5 * 20, 1.f);
  const auto step = [&] {
    const test::HeapCounter heap;
    tape.clear();
    arena.reset();
    const Tensor in = tape.leaf(view(x, {2, 9, 9, 20}), view(dx, {2, 9, 9, 20}));
    const Tensor weight = tape.leaf(view(w, {3, 3, 20, 20}), view(dw, {3, 3, 20, 20}));
    const Tensor y = conv2d(conv2d(in, weight, {}, {1, 1}), weight, {}, {2, 1});
    tape.backward(y, view(dy, {2, 5, 5, 20}));
    return heap.count();
  };
  for (int i = 0; i < 3; ++i) step();
  CHECK(step() == 0);
}

TEST_CASE("conv2d: rejects what it cannot do") {
  StepArena arena;
  Tape tape(arena);
  std::vector<float> v(2 * 4 * 4 * 3), w(3 * 3 * 3 * 2), bias(3);
  const Tensor plain = view(v, {2, 4, 4, 3}), x = tape.input(plain), k = view(w, {3, 3, 3, 2});
  CHECK(caught([&] { conv2d(plain, k, {}); }).is(ErrorKind::kValue, {"tape"}));
  CHECK(caught([&] {
          conv2d(tape.input(view(v, {2, 16, 3})), k, {});
        }).is(ErrorKind::kShape, {"conv2d", "(2,16,3)"}));
  CHECK(caught([&] {
          conv2d(tape.input(view(v, {2, 3, 4, 4})), k, {});
        }).is(ErrorKind::kShape, {"(2,3,4,4)", "(3,3,3,2)"}));
  CHECK(caught([&] { conv2d(x, view(w, {1, 9, 3, 2}), {}); }).is(ErrorKind::kShape, {"(1,9,3,2)"}));
  CHECK(caught([&] { conv2d(x, k, {}, {0, 1}); }).is(ErrorKind::kValue, {"stride", "0"}));
  CHECK(caught([&] { conv2d(x, k, {}, {1, -1}); }).is(ErrorKind::kValue, {"padding", "-1"}));
  CHECK(caught([&] { conv2d(x, k, view(bias, {3})); }).is(ErrorKind::kShape, {"(2)", "(3)"}));
  std::vector<float> large(5 * 5 * 3 * 2), huge(13 * 13 * 3);
  CHECK(caught([&] {
          conv2d(x, view(large, {5, 5, 3, 2}), {});
        }).is(ErrorKind::kShape, {"kernel of 5", "(2,4,4,3)", "padded by 0"}));
  CHECK(caught([&] {
          conv2d(x, view(huge, {13, 13, 3, 1}), {}, {1, 6});
        }).is(ErrorKind::kShape, {"1 to 11"}));
  std::vector<double> d(2 * 4 * 4 * 3), dw(27 * 2);
  CHECK(caught([&] {
          conv2d(tape.input(view(d, {2, 4, 4, 3})), view(dw, {3, 3, 3, 2}), {},
                 {1, 1, Precision::kBf16});
        }).is(ErrorKind::kDtype, {"bf16"}));
}
