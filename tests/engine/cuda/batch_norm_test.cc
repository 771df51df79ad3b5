#include "engine/ops/batch_norm.h"

#include <vector>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

struct Case {
  bool training, residual, relu;
};
constexpr Case kCases[] = {{true, false, false}, {true, false, true},  {true, true, true},
                           {true, true, false},  {false, false, true}, {false, true, true},
                           {false, true, false}, {false, false, false}};

// x, scale, bias (, residual)
std::vector<ParityInput> inputs_of(const Shape& shape, const Case& c, double mean) {
  const Shape row{shape[-1]};
  std::vector<ParityInput> inputs{{shape, 2, mean}, {row, 1, 0.5}, {row}};
  if (c.residual) inputs.push_back({shape});
  return inputs;
}

template <class T>
Tensor normalised(Tape& tape, std::span<const Tensor> in, const Case& c) {
  const NormTail tail{c.residual ? &in[3] : nullptr, c.relu};
  if (c.training) return batch_norm(in[0], in[1], in[2], nullptr, 0.1, 1e-5, tail);
  const int64_t cols = in[0].shape()[-1];
  std::vector<T> mean = test_values<T>(7, cols), var = test_values<T>(8, cols);
  for (T& v : var) v += T(1.5);
  const RunningStatistics fixed{on(tape.arena(), mean, {cols}), on(tape.arena(), var, {cols})};
  return batch_norm_fixed(in[0], in[1], in[2], fixed, 1e-5, tail);
}

template <class T>
void check_batch_norm() {
  const auto check_case = [](const Shape& shape, const Case& c) {
    CAPTURE(shape);
    CAPTURE(c.training);
    CAPTURE(c.residual);
    CAPTURE(c.relu);
    check_parity<T>(Device::kCuda, inputs_of(shape, c, 0.25),
                    [&](Tape& tape, auto in) { return normalised<T>(tape, in, c); });
  };
  for (const Case& c : kCases) {
    check_case({3, 4}, c);
    check_case({2, 5, 3, 7}, c);
  }
  // Columns with and without 16-byte accesses, less and more than a block of them; rows of one
  // thread, fewer than threads, several chunks, and more chunks than there are lanes to merge them.
  for (const Shape& shape : {Shape{2, 1}, Shape{300, 64}, Shape{130, 130}, Shape{9, 136},
                             Shape{1100, 3}, Shape{2500, 8}}) {
    check_case(shape, {true, false, true});
  }
}

// Mean, variance of a batch in running statistics that start as (0, 1).
template <class T>
std::vector<std::vector<T>> statistics(Device device, const std::vector<T>& x, const Shape& shape,
                                       double momentum) {
  const Shape row{shape[-1]};
  StepArena arena(device);
  Tape tape(arena);
  const Buffer in = upload(x, shape, device);
  const Buffer ones = upload(std::vector<T>(static_cast<size_t>(row[0]), T(1)), row, device);
  const Buffer zeros(row, dtype_of<T>(), device), mean(row, dtype_of<T>(), device);
  const Buffer var = upload(std::vector<T>(static_cast<size_t>(row[0]), T(1)), row, device);
  const RunningStatistics running{mean.tensor(), var.tensor()};
  (void)batch_norm(tape.input(in.tensor()), tape.input(ones.tensor()), tape.input(zeros.tensor()),
                   &running, momentum);
  return {download<T>(mean), download<T>(var)};
}

}  // namespace

TEST_CASE("cuda: batch norm as on the CPU" * doctest::skip(!cuda_available())) {
  check_batch_norm<float>();
  check_batch_norm<double>();
}

TEST_CASE("cuda: batch norm moves running statistics as on the CPU" *
          doctest::skip(!cuda_available())) {
  for (const double momentum : {0.1, 1.0}) {
    const Shape shape{333, 12};
    const auto x = test_values<double>(3, shape.numel(), 2);
    const auto want = statistics(Device::kCpu, x, shape, momentum);
    const auto got = statistics(Device::kCuda, x, shape, momentum);
    for (size_t i = 0; i < 2; ++i) CHECK(worst_error(got[i], want[i]) < 1e-12);
  }
}

TEST_CASE("cuda: a large mean costs batch norm no digits" * doctest::skip(!cuda_available())) {
  // In f32 the squares of these would have no digit of the variance left.
  for (const Shape& shape : {Shape{2048, 8}, Shape{2048, 3}, Shape{5, 8}}) {
    const auto wide = test_values<double>(4, shape.numel());
    std::vector<float> x;
    std::vector<double> rounded;
    for (const double v : wide) {
      x.push_back(static_cast<float>(v + 4096));
      rounded.push_back(x.back());
    }
    const auto want = statistics(Device::kCpu, rounded, shape, 1);
    const auto got = statistics(Device::kCuda, x, shape, 1);
    CHECK(worst_error(got[0], want[0]) < 1e-6);
    CHECK(worst_error(got[1], want[1]) < 1e-3);
  }
}

TEST_CASE("cuda: with fixed statistics a row does not depend on its batch" *
          doctest::skip(!cuda_available())) {
  for (const int64_t cols : {12, 7}) {
    const auto x = test_values<float>(5, 600 * cols);
    const auto run = [&](int64_t first, int64_t rows) {
      StepArena arena(Device::kCuda);
      Tape tape(arena);
      const std::vector<float> part(x.begin() + first * cols, x.begin() + (first + rows) * cols);
      const auto row = [&](uint64_t seed) {
        return tape.input(on(arena, test_values<float>(seed, cols), {cols}));
      };
      std::vector<float> var = test_values<float>(8, cols);
      for (float& v : var) v += 1.5f;
      const RunningStatistics fixed{row(6), on(arena, var, {cols})};
      return download<float>(
          batch_norm_fixed(tape.input(on(arena, part, {rows, cols})), row(1), row(2), fixed));
    };
    const auto all = run(0, 600);
    for (const int64_t first : {0, 1, 599}) {
      const std::vector<float> want(all.begin() + first * cols, all.begin() + (first + 1) * cols);
      CHECK(same_bits(run(first, 1), want));
    }
  }
}
