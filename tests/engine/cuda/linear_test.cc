#include "engine/ops/linear.h"

#include "engine/ops/linear_kernels.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

template <class T>
void check_linear() {
  for (const auto& [k, n] : {std::pair{12, 8}, {7, 5}, {3, 130}}) {
    for (const Shape& x : {Shape{1, k}, Shape{3, 5, k}, Shape{70, k}}) {
      CAPTURE(x);
      const std::vector<ParityInput> inputs{{x}, {{k, n}}, {{n}}, {x.with_last(n)}};
      for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
        check_parity<T>(Device::kCuda, inputs, [form](Tape&, auto in) {
          return linear(in[0], in[1], in[2], {.gelu = true, .form = form});
        });
      }
      check_parity<T>(Device::kCuda, inputs, [](Tape&, auto in) {
        return linear(in[0], in[1], in[2], {.residual = &in[3]});
      });
      check_parity<T>(Device::kCuda, inputs,
                      [](Tape&, auto in) { return linear(in[0], in[1], Tensor{}); });
    }
  }
}

template <class T>
void check_grouped_linear() {
  for (const auto& [k, n] : {std::pair{12, 8}, {7, 5}}) {
    const std::vector<ParityInput> in{{{70, k}}, {{4, k, n}}, {{4, n}}};
    for (const auto& offset :
         {std::vector<int32_t>{0, 3, 3, 68, 70}, std::vector<int32_t>{0, 70, 70, 70, 70}}) {
      for (const bool gelu : {false, true}) {
        check_parity<T>(Device::kCuda, in, [&](Tape& tape, auto x) {
          return grouped_linear(x[0], x[1], x[2], on(tape.arena(), offset, {5}), {.gelu = gelu});
        });
      }
    }
  }
}

// Precisions: against the CPU's bf16, and tf32 against f32.
void check_precisions() {
  const std::vector<ParityInput> in{{{40, 24}}, {{24, 20}}, {{20}}};
  const std::vector<ParityInput> grouped{{{40, 24}}, {{2, 24, 20}}, {{2, 20}}};
  for (const Precision precision : {Precision::kBf16, Precision::kTf32}) {
    const double bound = precision == Precision::kBf16 ? 1e-2 : 2e-3;
    const auto of = [precision](const Tensor& x) {
      return x.device() == Device::kCpu && precision == Precision::kTf32 ? Precision::kF32
                                                                         : precision;
    };
    check_parity<float>(
        Device::kCuda, in,
        [&](Tape&, auto x) {
          return linear(x[0], x[1], x[2], {.gelu = true, .precision = of(x[0])});
        },
        bound);
    check_parity<float>(
        Device::kCuda, grouped,
        [&](Tape& tape, auto x) {
          return grouped_linear(x[0], x[1], x[2], on<int32_t>(tape.arena(), {0, 13, 40}, {3}),
                                {.gelu = true, .precision = of(x[0])});
        },
        bound);
  }
}

// From a few rows to several tiles of them, with and without 16-byte accesses, by groups or not.
template <class T>
void check_column_sums() {
  for (const int64_t cols : {1, 4, 31, 128, 130, 260}) {
    for (const std::vector<int32_t>& offset :
         {std::vector<int32_t>{}, {0, 1}, {0, 0, 31, 32, 95, 95}, {0, 9000}, {0, 40, 9000, 9000}}) {
      if (cols > 128 && !offset.empty() && offset.back() > 1000) continue;
      const int64_t groups = std::max<int64_t>(1, static_cast<int64_t>(offset.size()) - 1);
      const int64_t rows = offset.empty() ? 77 : offset.back();
      const auto x = test_values<T>(1, (rows + 5) * cols), start = test_values<T>(2, groups * cols);
      const auto sums = [&](Device device) {
        const Buffer in = upload(x, device), out = upload(start, device);
        const Buffer at = upload(offset.empty() ? std::vector<int32_t>{0} : offset, device);
        // On CUDA rows may follow that belong to no group.
        const int64_t all = device == Device::kCuda && !offset.empty() ? rows + 5 : rows;
        on_device(device, [&](auto backend) {
          kernels::add_column_sums<T>(backend, in.data<const T>(),
                                      offset.empty() ? nullptr : at.data<const int32_t>(), groups,
                                      {all, cols}, out.data<T>());
        });
        return download<T>(out);
      };
      CAPTURE(cols);
      CAPTURE(rows);
      const auto want = sums(Device::kCpu), got = sums(Device::kCuda);
      CHECK(worst_error(got, std::vector<double>(want.begin(), want.end())) < tolerance<T>());
      CHECK(same_bits(got, sums(Device::kCuda)));
    }
  }
}

template <class T>
void check_flat() {
  for (const int64_t count : {1, 4, 1000, 1023, 4096}) {
    const auto z = test_values<T>(1, count, 6), dh = test_values<T>(2, count);
    for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
      const auto run = [&](Device device, bool in_place) {
        const Buffer a = upload(z, device), b = upload(dh, device), c = upload(dh, device);
        on_device(device, [&](auto backend) {
          kernels::gelu_backward<T>(backend, a.data<const T>(), b.data<const T>(),
                                    (in_place ? b : c).template data<T>(), count, form);
          kernels::add_into<T>(backend, a.data<const T>(), (in_place ? b : c).template data<T>(),
                               count);
        });
        return download<T>(in_place ? b : c);
      };
      const auto want = run(Device::kCpu, false), got = run(Device::kCuda, false);
      CHECK(worst_error(got, std::vector<double>(want.begin(), want.end())) < tolerance<T>());
      CHECK(same_bits(run(Device::kCuda, true), got));
    }
  }
}

}  // namespace

TEST_CASE("cuda: linear as on the CPU" * doctest::skip(!cuda_available())) {
  check_linear<float>();
  check_linear<double>();
}
TEST_CASE("cuda: grouped_linear as on the CPU" * doctest::skip(!cuda_available())) {
  check_grouped_linear<float>();
  check_grouped_linear<double>();
}
TEST_CASE("cuda: linear in bf16 and tf32" * doctest::skip(!cuda_available())) {
  check_precisions();
}
TEST_CASE("cuda: column sums" * doctest::skip(!cuda_available())) {
  check_column_sums<float>();
  check_column_sums<double>();
}
TEST_CASE("cuda: gelu_backward and add_into" * doctest::skip(!cuda_available())) {
  check_flat<float>();
  check_flat<double>();
}
TEST_CASE("linear: tf32 is for CUDA devices") {
  StepArena arena(Device::kCpu);
  Tape tape(arena);
  const Buffer x = upload(test_values<float>(1, 6), {2, 3}, Device::kCpu);
  const Buffer w = upload(test_values<float>(2, 12), {3, 4}, Device::kCpu);
  CHECK_THROWS_WITH_AS(
      linear(tape.input(x.tensor()), w.tensor(), Tensor{}, {.precision = Precision::kTf32}),
      doctest::Contains("tf32 is for CUDA devices"), Error);
}
