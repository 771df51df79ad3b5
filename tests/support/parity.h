#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <span>
#include <vector>

#include "engine/core/tape.h"
#include "engine/ops/pointwise.h"
#include "tests/support/devices.h"

// An op on a GPU against the same op on the CPU: forward and every gradient.
namespace engine::test {

// One floating-point input: values in [-scale, scale) + shift.
struct ParityInput {
  Shape shape;
  double scale = 1, shift = 0;
  bool grad = true;
};

// Builds the op's output from inputs on a tape. Index arrays and the like are made with
// on(device, ...) below. Called twice a run, with intermediates as inputs, so that a backward has
// to overwrite first and to add then.
using ParityOp = std::function<Tensor(Tape& tape, std::span<const Tensor> inputs)>;

// A host array as a tensor on the arena's device.
template <class T>
Tensor on(StepArena& arena, const std::vector<T>& values, const Shape& shape) {
  const Tensor x = arena.empty(shape, dtype_of<T>());
  device_copy(arena.device(), x.raw(), Device::kCpu, values.data(), x.bytes());
  return x;
}

struct ParityResult {
  std::vector<double> y;
  std::vector<std::vector<double>> gradients;
};

template <class T>
ParityResult run_parity(Device device, const std::vector<ParityInput>& inputs, const ParityOp& op) {
  const auto wide = [](const Tensor& t) {
    const auto values = download<T>(t);
    return std::vector<double>(values.begin(), values.end());
  };
  StepArena arena(device);
  Tape tape(arena);
  std::vector<Buffer> values, gradients;
  std::vector<Tensor> on_tape;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ParityInput& in = inputs[i];
    auto v = test_values<T>(40 + i, in.shape.numel(), in.scale);
    for (T& x : v) x += static_cast<T>(in.shift);
    values.push_back(upload(v, in.shape, device));
    gradients.push_back(upload(test_values<T>(60 + i, in.shape.numel()), in.shape, device));
    const Tensor x = in.grad ? tape.leaf(values[i].tensor(), gradients[i].tensor())
                             : tape.input(values[i].tensor());
    on_tape.push_back(in.grad ? scale(x, 0.75) : x);
  }
  const Tensor once = op(tape, on_tape);
  const Tensor y = add(once, scale(op(tape, on_tape), 0.5));
  const Buffer seed = upload(test_values<T>(80, y.numel()), y.shape(), device);
  ParityResult result{wide(y), {}};
  if (y.slot() < 0) return result;
  tape.backward(y, seed.tensor());
  for (const Buffer& g : gradients) result.gradients.push_back(wide(g.tensor()));
  return result;
}

// tolerance: of the largest error, relative to the largest value of the CPU's tensor.
template <class T>
void check_parity(Device device, const std::vector<ParityInput>& inputs, const ParityOp& op,
                  double bound = tolerance<T>()) {
  const ParityResult want = run_parity<T>(Device::kCpu, inputs, op);
  const ParityResult got = run_parity<T>(device, inputs, op);
  CHECK(worst_error(got.y, want.y) < bound);
  REQUIRE(got.gradients.size() == want.gradients.size());
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    CAPTURE(i);
    CHECK(worst_error(got.gradients[i], want.gradients[i]) < bound);
  }
  const ParityResult again = run_parity<T>(device, inputs, op);
  CHECK(same_bits(again.y, got.y));
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    CHECK(same_bits(again.gradients[i], got.gradients[i]));
  }
}

}  // namespace engine::test
