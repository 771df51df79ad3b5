#include "engine/ops/pointwise.h"

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

template <class T>
void check_pointwise() {
  // With and without 16-byte accesses, less and more than a block.
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{4, 8, 64}, Shape{3, 1031}}) {
    CAPTURE(shape);
    const ParityInput x{shape, 2};
    const auto check_op = [](const std::vector<ParityInput>& inputs, const ParityOp& op) {
      check_parity<T>(Device::kCuda, inputs, op);
    };
    check_op({x, x}, [](Tape&, auto in) { return add(in[0], in[1]); });
    check_op({x, x}, [](Tape&, auto in) { return multiply(in[0], in[1]); });
    check_op({x}, [](Tape&, auto in) { return scale(in[0], -1.25); });
    check_op({x}, [](Tape&, auto in) { return relu(in[0]); });
    check_op({x}, [](Tape&, auto in) { return engine::tanh(in[0]); });
    check_op({x}, [](Tape&, auto in) { return round_bf16(in[0]); });
    check_op({x}, [](Tape&, auto in) { return reshape(in[0], {in[0].numel()}); });
  }
  check_parity<T>(Device::kCuda, {{{7, 6}}}, [](Tape&, auto in) { return slice(in[0], 2, 5); });
}

}  // namespace

TEST_CASE("cuda: pointwise ops as on the CPU" * doctest::skip(!cuda_available())) {
  check_pointwise<float>();
  check_pointwise<double>();
}
