#include "engine/core/tape.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "tests/support/gradcheck.h"
#include "tests/support/heap_counter.h"

using namespace engine;
using engine::test::caught;
using engine::test::gradcheck;
using engine::test::HeapCounter;
using engine::test::view;

namespace {

using Doubles = std::vector<double>;

// A leaf, its gradient and the tape they are on.
struct Leaf {
  explicit Leaf(Tape& tape, Doubles start = {1, 2, 3})
      : value(std::move(start)), grad(value.size(), 0), shape{static_cast<int64_t>(value.size())} {
    x = tape.leaf(view(value, shape), view(grad, shape));
  }
  Doubles value, grad;
  Shape shape;
  Tensor x;
};

// y1 = 2x, y2 = 5x in one node.
std::pair<Tensor, Tensor> two_outputs(const Tensor& x, std::string* reached) {
  Tensor ys[2];
  for (int k = 0; k < 2; ++k) {
    ys[k] = x.tape()->arena().empty(x.shape(), Dtype::kF64);
    for (int64_t i = 0; i < x.numel(); ++i) {
      ys[k].data<double>()[i] = (k == 0 ? 2 : 5) * x.data<const double>()[i];
    }
  }
  x.tape()->record("two_outputs", std::span<const Tensor>(&x, 1), std::span<Tensor>(ys),
                   [x, reached](std::span<const Tensor> dys, Tape& tape) {
                     double* dx = tape.target_zeroed(x).data<double>();
                     for (size_t k = 0; k < 2; ++k) {
                       *reached += dys[k].defined() ? 'y' : 'n';
                       if (!dys[k].defined()) continue;
                       for (int64_t i = 0; i < x.numel(); ++i) {
                         dx[i] += (k == 0 ? 2 : 5) * dys[k].data<const double>()[i];
                       }
                     }
                   });
  return {ys[0], ys[1]};
}

// The same elements; writes its letter into the log when its backward runs.
Tensor traced(const Tensor& x, char letter, std::string* log) {
  Tensor y = x.viewed(x.shape());
  x.tape()->record("traced", {x}, y, [=](const Tensor& dy, Tape& tape) {
    *log += letter;
    if (!tape.pass_grad(x, dy)) {
      double* dx = tape.target_zeroed(x).data<double>();
      for (int64_t i = 0; i < x.numel(); ++i) dx[i] += dy.data<const double>()[i];
    }
  });
  return y;
}

const Doubles kOnes = {1, 1, 1};

}  // namespace

TEST_CASE("tape: leaves add their gradients and may be used twice") {
  StepArena arena;
  Doubles value = {1, 2, 3}, grad = {100, 100, 100};
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    Tape tape(arena);
    const Tensor x = tape.leaf(view(value, {3}), view(grad, {3}));
    tape.backward(add(scale(x, 2), multiply(x, x)), view(kOnes, {3}));
  }
  CHECK(grad == Doubles{108, 112, 116});  // 100 + 2 * (2 + 2x)
}

TEST_CASE("tape: a leaf and its gradient must fit") {
  StepArena arena;
  Tape tape(arena);
  Doubles v(6), g(5);
  std::vector<float> f(6);
  CHECK(
      caught([&] { tape.leaf(view(v, {6}), view(g, {5})); }).is(ErrorKind::kShape, {"(5)", "(6)"}));
  CHECK(
      caught([&] { tape.leaf(view(v, {6}), view(f, {6})); }).is(ErrorKind::kDtype, {"f32", "f64"}));
}

TEST_CASE("tape: nothing is recorded where no gradient is wanted") {
  StepArena arena;
  Tape tape(arena);
  Doubles v = {1, 2, 3};
  const Tensor x = tape.input(view(v, {3}));
  const Tensor y = multiply(scale(x, 3), x);
  CHECK(tape.node_count() == 0);
  CHECK_FALSE(tape.wants_grad(x));
  CHECK_FALSE(tape.wants_grad(y));
  CHECK(y.tape() == &tape);
  const Leaf leaf(tape);
  CHECK(tape.wants_grad(multiply(leaf.x, y)));
  CHECK(tape.node_count() == 1);
}

TEST_CASE("tape: the first gradient of an intermediate overwrites and later ones add") {
  StepArena arena;
  test::fill_with_nan(arena, 100'000);
  Tape tape(arena);
  const Leaf leaf(tape);
  const Tensor y = scale(leaf.x, 1);
  CHECK(tape.target(leaf.x).write == GradWrite::kAccumulate);
  CHECK(tape.target(leaf.x).grad.data<double>() == leaf.grad.data());
  const GradTarget first = tape.target(y), second = tape.target(y);
  CHECK(first.write == GradWrite::kOverwrite);
  CHECK(second.write == GradWrite::kAccumulate);
  CHECK(first.grad.data<double>() == second.grad.data<double>());
  CHECK(first.grad.shape() == y.shape());
}

TEST_CASE("tape: target_zeroed is zero at the first request only") {
  StepArena arena;
  test::fill_with_nan(arena, 100'000);
  Tape tape(arena);
  const Leaf leaf(tape);
  const Tensor y = scale(leaf.x, 1);
  const Tensor dy = tape.target_zeroed(y);
  CHECK(test::copy_of<double>(dy) == Doubles{0, 0, 0});
  dy.data<double>()[1] = 5;
  CHECK(test::copy_of<double>(tape.target_zeroed(y)) == Doubles{0, 5, 0});
  CHECK(tape.target(y).write == GradWrite::kAccumulate);
}

TEST_CASE("tape: a target of what wants no gradient fails") {
  StepArena arena;
  Tape tape(arena), other(arena);
  Doubles v = {1, 2, 3};
  const Tensor x = tape.input(view(v, {3}));
  CHECK(caught([&] { tape.target(x); }).is(ErrorKind::kInternal));
  CHECK(caught([&] { tape.target_zeroed(x); }).is(ErrorKind::kInternal));
  CHECK(caught([&] { tape.pass_grad(x, x); }).is(ErrorKind::kInternal));
  const Leaf elsewhere(other);
  CHECK(caught([&] { tape.target(elsewhere.x); }).is(ErrorKind::kInternal));
}

TEST_CASE("tape: inputs on two tapes fail") {
  StepArena arena;
  Tape tape(arena), other(arena);
  const Leaf a(tape), b(other);
  CHECK(caught([&] { add(a.x, b.x); }).is(ErrorKind::kValue, {"two different tapes"}));
}

TEST_CASE("tape: backward needs a loss that depends on a leaf and a seed that fits") {
  StepArena arena;
  Tape tape(arena), other(arena);
  Doubles v = {1, 2, 3};
  const Tensor x = tape.input(view(v, {3}));
  CHECK(caught([&] { tape.backward(x, view(kOnes, {3})); }).is(ErrorKind::kValue));
  CHECK(caught([&] { tape.backward(view(v, {3}), view(kOnes, {3})); }).is(ErrorKind::kValue));
  const Leaf leaf(tape);
  const Tensor y = scale(leaf.x, 2);
  CHECK(caught([&] { other.backward(y, view(kOnes, {3})); }).is(ErrorKind::kValue));
  CHECK(caught([&] {
          tape.backward(y, view(kOnes, {3, 1}));
        }).is(ErrorKind::kShape, {"(3,1)", "(3)"}));
}

TEST_CASE("tape: backward runs once until clear") {
  StepArena arena;
  Tape tape(arena);
  {
    const Leaf leaf(tape);
    const Tensor y = scale(leaf.x, 2);
    tape.backward(y, view(kOnes, {3}));
    CHECK(caught([&] { tape.backward(y, view(kOnes, {3})); }).is(ErrorKind::kValue, {"already"}));
  }
  tape.clear();
  const Leaf again(tape);
  const Tensor y = scale(again.x, 2);
  CHECK_NOTHROW(tape.backward(y, view(kOnes, {3})));
}

TEST_CASE("tape: runs newest first and only what the loss depends on") {
  StepArena arena;
  Tape tape(arena);
  const Leaf leaf(tape);
  std::string log;
  const Tensor a = traced(leaf.x, 'a', &log);
  const Tensor b = traced(a, 'b', &log);
  traced(a, 'c', &log);  // a dead branch
  const Tensor d = traced(b, 'd', &log);
  traced(d, 'e', &log);  // after the loss
  tape.backward(d, view(kOnes, {3}));
  CHECK(log == "dba");
  CHECK(leaf.grad == kOnes);
}

TEST_CASE("tape: several outputs of which some are reached") {
  for (const int used : {0, 1, 2}) {
    StepArena arena;
    Tape tape(arena);
    const Leaf leaf(tape);
    std::string reached;
    const auto ys = two_outputs(leaf.x, &reached);
    const Tensor loss = used == 0   ? scale(ys.first, 1)
                        : used == 1 ? scale(ys.second, 1)
                                    : add(ys.first, ys.second);
    tape.backward(loss, view(kOnes, {3}));
    const double want = used == 0 ? 2 : used == 1 ? 5 : 7;
    CHECK(leaf.grad == Doubles{want, want, want});
    CHECK(reached == (used == 0 ? "yn" : used == 1 ? "ny" : "yy"));
    CHECK(tape.node_count() == 2);
  }
}

TEST_CASE("tape: keep copies an array for the tape's life") {
  StepArena arena;
  Tape tape(arena);
  std::vector<int32_t> source = {4, 5, 6};
  const auto kept = tape.keep(std::span<const int32_t>(source));
  source.assign(3, -1);
  CHECK(std::vector<int32_t>(kept.begin(), kept.end()) == std::vector<int32_t>{4, 5, 6});
  CHECK(tape.keep(std::span<const int32_t>()).empty());
  // More than any block of node memory at once.
  const Doubles many(300'000, 7);
  const auto large = tape.keep(std::span<const double>(many));
  CHECK(large.size() == many.size());
  CHECK(large.back() == 7);
  CHECK(kept[2] == 6);
}

TEST_CASE("tape: pass_grad hands memory over once and only to what has no gradient") {
  StepArena arena;
  Tape tape(arena);
  const Leaf leaf(tape);
  const Tensor x = leaf.x, a = scale(x, 1), b = scale(x, 1);
  bool results[4] = {};
  const double* given = nullptr;
  Tensor y = a.viewed(a.shape());
  bool* const out = results;
  const double** const where = &given;
  tape.record("splitter", {a, b, x}, y, [=](const Tensor& dy, Tape& on) {
    out[0] = on.pass_grad(x, dy);  // a leaf has one already
    out[1] = on.pass_grad(a, dy);
    out[2] = on.pass_grad(b, dy);  // handed over before
    out[3] = on.pass_grad(a, dy);
    *where = dy.data<const double>();
    CHECK(on.target(a).write == GradWrite::kAccumulate);
    CHECK(on.target(a).grad.data<double>() == *where);
    CHECK(on.target(b).write == GradWrite::kOverwrite);
    on.target_zeroed(b).data<double>()[0] = 0;
  });
  const Tensor z = scale(y, 3);
  tape.backward(z, view(kOnes, {3}));
  CHECK_FALSE(results[0]);
  CHECK(results[1]);
  CHECK_FALSE(results[2]);
  CHECK_FALSE(results[3]);
}

TEST_CASE("tape: the caller's seed is never handed over or written") {
  StepArena arena;
  Tape tape(arena);
  const Leaf leaf(tape);
  const Tensor a = scale(leaf.x, 2);
  const Tensor y = add(reshape(a, {3, 1}), reshape(a, {3, 1}));
  const Doubles seed = {1, 10, 100};
  tape.backward(y, view(seed, {3, 1}));
  CHECK(seed == Doubles{1, 10, 100});
  CHECK(leaf.grad == Doubles{4, 40, 400});
}

TEST_CASE("tape: scratch_like is dy itself where nobody reads it again") {
  StepArena arena;
  Tape tape(arena);
  const Leaf leaf(tape);
  std::vector<bool> same;
  std::vector<bool>* const out = &same;
  Tensor y = leaf.x;
  for (int i = 0; i < 2; ++i) {
    const Tensor x = y;
    y = x.viewed(x.shape());
    tape.record("scratch", {x}, y, [=](const Tensor& dy, Tape& on) {
      const Tensor scratch = on.scratch_like(dy);
      out->push_back(scratch.raw() == dy.raw());
      CHECK(scratch.shape() == dy.shape());
      double* dx = on.target_zeroed(x).data<double>();
      for (int64_t k = 0; k < x.numel(); ++k) dx[k] += dy.data<const double>()[k];
    });
  }
  tape.backward(y, view(kOnes, {3}));
  CHECK(same == std::vector<bool>{false, true});  // the seed is the caller's
  CHECK(leaf.grad == kOnes);
}

TEST_CASE("tape: gradients that have done their work are used again") {
  StepArena arena;
  Tape tape(arena);
  const Doubles start(10'000, 0.1);
  Doubles grad(start.size(), 0);
  Tensor y = tape.leaf(view(start, {10'000}), view(grad, {10'000}));
  for (int i = 0; i < 30; ++i) y = tanh(y);
  const int64_t forward = arena.bytes_in_use();
  tape.backward(y, view(start, {10'000}));
  CHECK(arena.bytes_in_use() - forward <= 3 * (80'000 + 128));
  CHECK(grad[0] > 0);
}

TEST_CASE("tape: gradients of graphs that hand memory over and use it again") {
  const auto f = [](std::span<const Tensor> x) {
    Tensor h = add(x[0], x[1]);
    for (int i = 0; i < 3; ++i) {
      const Tensor branch = tanh(multiply(h, h));
      const Tensor flat = reshape(add(h, branch), {6});
      h = add(reshape(flat, {2, 3}), softmax(h));
    }
    const Tensor top = slice(h, 0, 1);
    return add(multiply(top, slice(h, 1, 2)), top);
  };
  const auto report = gradcheck(f, {Shape{2, 3}, Shape{2, 3}});
  CHECK_MESSAGE(report.ok(), report);
}

TEST_CASE("tape: first_non_finite names the op") {
  StepArena arena;
  Tape tape(arena);
  const Leaf leaf(tape, {1, 2, 3});
  const Tensor a = tanh(leaf.x);
  CHECK(tape.first_non_finite().empty());
  const Tensor b = multiply(scale(a, std::numeric_limits<double>::infinity()), a);
  CHECK(tape.wants_grad(b));
  CHECK(tape.first_non_finite() == "scale");
  StepArena arena32;
  Tape tape32(arena32);
  std::vector<float> v = {1e30f}, g(1);
  const Tensor x = tape32.leaf(view(v, {1}), view(g, {1}));
  add(multiply(x, x), x);
  CHECK(tape32.first_non_finite() == "multiply");
  tape32.clear();
  CHECK(tape32.first_non_finite().empty());
}

TEST_CASE("tape: first_non_finite names the scope") {
  StepArena arena;
  Tape tape(arena);
  const double inf = std::numeric_limits<double>::infinity();
  for (const bool late : {false, true}) {
    tape.clear();
    const Leaf leaf(tape);
    const Tensor a = scale(leaf.x, late ? 2 : inf);
    tape.scope("blocks.3");
    const Tensor b = scale(a, 3);
    tape.scope("head");
    scale(b, inf);
    CHECK(tape.first_non_finite() == (late ? "head/scale" : "scale"));
  }
}

TEST_CASE("tape: a profile counts ops forward and adds up the times") {
  StepArena arena;
  Tape tape(arena);
  OpTimes times;
  const Doubles start(50'000, 0.5);
  Doubles grad(start.size(), 0);
  const Tensor x = tape.leaf(view(start, {50'000}), view(grad, {50'000}));
  scale(x, 2);  // before the profile
  tape.profile(&times);
  const Tensor y = tanh(scale(tanh(x), 2));
  tape.backward(y, view(start, {50'000}));
  tape.profile(nullptr);
  tanh(x);
  const OpTimes::Row& first = times.rows()[0];
  const OpTimes::Row& second = times.rows()[1];
  CHECK(first.name == "tanh");
  CHECK(first.calls == 2);
  CHECK(second.name == "scale");
  CHECK(second.calls == 1);
  for (const OpTimes::Row& row : {first, second}) {
    CHECK(row.forward_s > 0);
    CHECK(row.backward_s > 0);
  }
  CHECK(times.rows()[2].name.empty());
}

TEST_CASE("op_times: names beyond the rows are counted together") {
  std::vector<std::string> names;
  for (int i = 0; i < 60; ++i) names.push_back("op" + std::to_string(i));
  OpTimes times;
  for (const std::string& name : names) times.add_forward(name, 1);
  times.add_backward("op3", 0);  // a backward that took no measurable time is no call
  CHECK(times.rows()[3].calls == 1);
  CHECK(times.rows()[46].name == "op46");
  CHECK(times.rows()[47].name == "others");
  CHECK(times.rows()[47].calls == 13);
  CHECK(times.rows()[47].forward_s == 13);
}

TEST_CASE("tape: clear forgets everything") {
  StepArena arena;
  Tape tape(arena);
  for (int step = 0; step < 3; ++step) {
    arena.reset();
    tape.clear();
    CHECK(tape.node_count() == 0);
    const Leaf leaf(tape);
    tape.backward(scale(leaf.x, 2), view(kOnes, {3}));
    CHECK(tape.node_count() == 1);
    CHECK(leaf.grad == Doubles{2, 2, 2});
  }
}

TEST_CASE("tape: a tape runs inside another under its own mark") {
  StepArena arena;
  Tape outer(arena);
  const Leaf leaf(outer);
  const Tensor a = scale(leaf.x, 2);
  Doubles inner_grad(3, 0);
  {
    const ArenaScope scope(arena);
    Tape inner(arena);
    const Tensor x = inner.leaf(view(leaf.value, {3}), view(inner_grad, {3}));
    inner.backward(multiply(x, x), view(kOnes, {3}));
  }
  outer.backward(multiply(a, a), view(kOnes, {3}));
  CHECK(inner_grad == Doubles{2, 4, 6});
  CHECK(leaf.grad == Doubles{8, 16, 24});
}

TEST_CASE("tape: a warm step makes no heap allocation" * doctest::skip(!HeapCounter::available())) {
  StepArena arena;
  Tape tape(arena);
  const Doubles start(5000, 0.5);
  Doubles grad(start.size(), 0);
  const auto step = [&] {
    arena.reset();
    tape.clear();
    const Tensor x = tape.leaf(view(start, {50, 100}), view(grad, {50, 100}));
    Tensor y = x;
    for (int i = 0; i < 50; ++i) y = add(softmax(multiply(y, x)), y);
    tape.keep(std::span<const double>(start));
    tape.backward(y, view(start, {50, 100}));
  };
  for (int i = 0; i < 3; ++i) step();
  const HeapCounter heap;
  for (int i = 0; i < 10; ++i) step();
  const int64_t allocations = heap.count();
  CHECK(allocations == 0);
}

TEST_CASE("tape: a slope is for the only reader of a gradient that is written whole") {
  StepArena arena;
  Tape tape(arena);
  Leaf leaf(tape);
  const Tensor y = scale(leaf.x, 2.0), other = scale(leaf.x, 3.0);
  tape.offer_slope(y, {leaf.x, 7});
  CHECK_FALSE(tape.take_slope(y).of.defined());  // no reader
  CHECK_FALSE(tape.multiplied(y));
  const Tensor sum = add(y, other);
  CHECK_FALSE(tape.take_slope(other).of.defined());  // not offered
  CHECK(tape.take_slope(y).form == 7);
  CHECK(tape.multiplied(y));
  // Of two readers none gets it, nor one that finds a gradient there.
  const Tensor twice = scale(leaf.x, 2.0);
  tape.offer_slope(twice, {leaf.x, 7});
  (void)add(twice, twice);
  CHECK_FALSE(tape.take_slope(twice).of.defined());
  const Tensor written = scale(leaf.x, 2.0);
  tape.offer_slope(written, {leaf.x, 7});
  (void)add(written, sum);
  (void)tape.target(written);
  CHECK_FALSE(tape.take_slope(written).of.defined());
  CHECK_FALSE(tape.multiplied(written));
}
