#include "engine/ops/cross_entropy.h"

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

constexpr CrossEntropy kKinds[] = {CrossEntropy::kSoftmax, CrossEntropy::kSigmoid};

template <class T>
void check_losses() {
  // One warp a row up to 1024 classes, then a block; more rows than the block that adds them has
  // threads.
  for (const Shape& shape :
       {Shape{1, 1}, Shape{5, 3}, Shape{7, 100}, Shape{300, 4}, Shape{3, 1024}, Shape{2, 1031}}) {
    CAPTURE(shape);
    std::vector<int32_t> labels;
    for (int64_t r = 0; r < shape[0]; ++r) {
      labels.push_back(static_cast<int32_t>((7 * r + shape[1] - 1) % shape[1]));
    }
    const ParityInput logits{shape, 6};
    for (const CrossEntropy kind : kKinds) {
      check_parity<T>(Device::kCuda, {logits}, [&](Tape& tape, auto in) {
        return cross_entropy(in[0], on(tape.arena(), labels, {shape[0]}), kind, 3.5);
      });
      const ParityInput targets{shape, 0.5, 0.5, false};
      check_parity<T>(Device::kCuda, {logits, targets},
                      [&](Tape&, auto in) { return soft_cross_entropy(in[0], in[1], kind, 3.5); });
    }
  }
}

}  // namespace

TEST_CASE("cuda: cross entropies as on the CPU" * doctest::skip(!cuda_available())) {
  check_losses<float>();
  check_losses<double>();
}

TEST_CASE("cuda: a class ruled out costs nothing" * doctest::skip(!cuda_available())) {
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Tensor x = tape.input(on<double>(arena, {0, -INFINITY, 0}, {1, 3}));
  const Tensor loss = cross_entropy(x, on<int32_t>(arena, {2}, {1}), CrossEntropy::kSoftmax, 1);
  CHECK(download<double>(loss)[0] == doctest::Approx(std::log(2)));
}
