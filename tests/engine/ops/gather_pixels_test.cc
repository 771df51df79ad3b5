#include "engine/ops/gather_pixels.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine::test;
using engine::ErrorKind;
using engine::Shape;
using engine::StepArena;
using engine::Tape;
using engine::Tensor;

TEST_CASE("gather_pixels: places, zeros, gradient of a pixel that stands at two") {
  const std::vector<int32_t> index = {2, -1, 0, 2};
  const auto at = [&] { return view(index, {4}); };
  const std::vector<double> x = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  StepArena arena;
  Tape tape(arena);
  const Tensor y = engine::gather_pixels(tape.input(view(x, {2, 3, 2})), at());
  CHECK(y.shape() == Shape{2, 4, 2});
  CHECK(copy_of<double>(y) ==
        std::vector<double>{5, 6, 0, 0, 1, 2, 5, 6, 11, 12, 0, 0, 7, 8, 11, 12});
  const auto op = [&](std::span<const Tensor> v) { return engine::gather_pixels(v[0], at()); };
  const auto report = gradcheck(op, {Shape{2, 3, 2}});
  CHECK_MESSAGE(report.ok(), report);
  const auto big = values<float>(5 * 3 * 2, 1);
  CHECK(same_bits_for_threads([&] {
    StepArena own;
    Tape on(own);
    return copy_of<float>(engine::gather_pixels(on.input(view(big, {5, 3, 2})), at()));
  }));
  const auto run = [&](const std::vector<int32_t>& places) {
    engine::gather_pixels(tape.input(view(x, {2, 3, 2})),
                          view(places, {static_cast<int64_t>(places.size())}));
  };
  CHECK(caught([&] { run({3}); }).is(ErrorKind::kValue, {"3 pixels"}));
  CHECK(caught([&] { run({-2}); }).is(ErrorKind::kValue, {"outside"}));
  CHECK(caught([&] {
          engine::gather_pixels(tape.input(view(x, {6, 2})), at());
        }).is(ErrorKind::kShape));
  CHECK(caught([&] {
          engine::gather_pixels(view(x, {2, 3, 2}), at());
        }).is(ErrorKind::kValue, {"tape"}));
}
