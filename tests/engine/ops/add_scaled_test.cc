#include "engine/ops/add_scaled.h"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::gradcheck;
using engine::test::values;
using engine::test::view;

TEST_CASE("add_scaled: x + factor * branch, an image at a time") {
  for (const int64_t size : {1, 3, 17, 4099}) {
    auto x = values<float>(3 * size, 1), branch = values<float>(3 * size, 2);
    branch[1 * size] = std::numeric_limits<float>::infinity();  // of the image that is skipped
    const std::array<float, 3> factors = {1.25f, 0, -0.5f};
    StepArena arena;
    Tape tape(arena);
    const Tensor y = add_scaled(tape.input(view(x, {3, size})), view(branch, {3, size}), factors);
    int64_t wrong = 0;
    for (int64_t i = 0; i < 3 * size; ++i) {
      const float factor = factors[static_cast<size_t>(i / size)];
      const float scaled = factor * branch[i];
      wrong += y.data<const float>()[i] != (factor == 0 ? x[i] : x[i] + scaled);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("add_scaled: gradients") {
  const std::array<float, 4> factors = {1.25f, 0, -0.5f, 1};
  const auto op = [&](std::span<const Tensor> in) { return add_scaled(in[0], in[1], factors); };
  for (const Shape& shape : {Shape{4}, Shape{4, 5}, Shape{4, 2, 3}}) {
    const auto report = gradcheck(op, {shape, shape});
    CHECK_MESSAGE(report.ok(), report);
  }
  // The stream and what branches off it.
  const auto block = [&](std::span<const Tensor> in) {
    const Tensor y = add_scaled(in[0], engine::tanh(in[0]), factors);
    return add_scaled(y, multiply(y, y), factors);
  };
  CHECK(gradcheck(block, {Shape{4, 6}}).ok());
}

TEST_CASE("add_scaled: bad input is refused") {
  auto x = values<float>(6, 1);
  StepArena arena;
  Tape tape(arena);
  const Tensor in = tape.input(view(x, {2, 3}));
  const std::array<float, 2> two = {1, 1};
  CHECK(caught([&] {
          add_scaled(in, view(x, {3, 2}), two);
        }).message == "add_scaled: shapes differ: (2,3) and (3,2)");
  CHECK(caught([&] { add_scaled(in, in, std::span(two).first(1)); }).message ==
        "add_scaled: 1 factors for (2,3)");
  const std::array<float, 2> bad = {1, std::numeric_limits<float>::quiet_NaN()};
  CHECK(caught([&] { add_scaled(in, in, bad); }).is(ErrorKind::kValue));
  CHECK(caught([&] { add_scaled(view(x, {2, 3}), in, two); }).is(ErrorKind::kValue));
}
