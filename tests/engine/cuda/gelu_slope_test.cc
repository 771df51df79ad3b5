#include "engine/ops/cast.h"
#include "engine/ops/linear.h"
#include "engine/ops/pointwise.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

// GELU's slope as the epilogue of the product that makes GELU's gradient (Tape::take_slope).
namespace {

// y = gelu(x W1 + b1) W2 + b2 (+ x), of experts if the weights have three dimensions.
struct Mlp {
  LinearOptions first, second;
  std::vector<int32_t> offset = {};

  Tensor operator()(Tape& tape, std::span<const Tensor> in) const {
    if (offset.empty()) {
      return linear(linear(in[0], in[1], in[2], first), in[3], in[4], second);
    }
    const Tensor at = on(tape.arena(), offset, {static_cast<int64_t>(offset.size())});
    return grouped_linear(grouped_linear(in[0], in[1], in[2], at, first), in[3], in[4], at, second);
  }
};
std::vector<ParityInput> inputs(int64_t rows, int64_t k, int64_t hidden, int64_t experts) {
  if (experts == 0) return {{{rows, k}}, {{k, hidden}}, {{hidden}}, {{hidden, k}}, {{k}}};
  return {{{rows, k}},
          {{experts, k, hidden}},
          {{experts, hidden}},
          {{experts, hidden, k}},
          {{experts, k}}};
}

template <class T>
void check_mlp() {
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    for (const auto& [k, hidden] : {std::pair{8, 12}, {7, 5}, {12, 132}}) {
      const Mlp plain{{.gelu = true, .form = form}, {}};
      check_parity<T>(Device::kCuda, inputs(21, k, hidden, 0), plain);
      const Mlp experts{{.gelu = true, .form = form}, {}, {0, 3, 3, 140}};
      check_parity<T>(Device::kCuda, inputs(140, k, hidden, 3), experts);
    }
  }
}

// The same through tensors stored in bf16 on CUDA; the CPU rounds operands only.
void check_stored(const Mlp& mlp, const std::vector<ParityInput>& in) {
  check_parity<float>(
      Device::kCuda, in,
      [&](Tape& tape, auto x) {
        const bool small = x[0].device() == Device::kCuda;
        std::vector<Tensor> all(x.begin(), x.end());
        if (small) all[0] = cast(all[0], Dtype::kBF16);
        const Tensor y = mlp(tape, all);
        return small ? cast(y, Dtype::kF32) : y;
      },
      2e-2);
}

}  // namespace

TEST_CASE("cuda: two layers around GELU as on the CPU" * doctest::skip(!cuda_available())) {
  check_mlp<float>();
  check_mlp<double>();
}

TEST_CASE("cuda: two layers around GELU stored in bf16 as on the CPU" *
          doctest::skip(!cuda_available())) {
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    const LinearOptions first{.gelu = true, .form = form, .precision = Precision::kBf16},
        second{.precision = Precision::kBf16};
    // Wide enough for an epilogue of cuBLASLt's, too narrow, and with lines that begin anywhere.
    for (const auto& [k, hidden] : {std::pair{24, 32}, {16, 8}, {20, 21}}) {
      check_stored({first, second}, inputs(40, k, hidden, 0));
      check_stored({first, second, {0, 17, 17, 40}}, inputs(40, k, hidden, 3));
    }
  }
}

TEST_CASE("cuda: GELU with two readers gets its slope once" * doctest::skip(!cuda_available())) {
  const std::vector<ParityInput> in{{{9, 8}}, {{8, 12}}, {{12, 5}}, {{12, 5}}, {{9, 12}}};
  check_parity<double>(Device::kCuda, in, [](Tape&, auto x) {
    const Tensor h = linear(x[0], x[1], Tensor{}, {.gelu = true});
    return add(linear(h, x[2], Tensor{}), linear(h, x[3], Tensor{}));
  });
  // Read by an op that knows nothing of slopes, before and after one that does.
  check_parity<double>(Device::kCuda, in, [](Tape&, auto x) {
    const Tensor h = linear(x[0], x[1], Tensor{}, {.gelu = true});
    const Tensor masked = multiply(h, x[4]);
    return add(linear(masked, x[2], Tensor{}), linear(h, x[3], Tensor{}));
  });
  check_parity<double>(Device::kCuda, in, [](Tape&, auto x) {
    const Tensor h = linear(x[0], x[1], Tensor{}, {.gelu = true});
    const Tensor y = linear(h, x[3], Tensor{});
    return add(y, linear(multiply(h, x[4]), x[2], Tensor{}));
  });
}

TEST_CASE("cuda: linear offers GELU's slope, on a GPU only" * doctest::skip(!cuda_available())) {
  for (const Device device : {Device::kCpu, Device::kCuda}) {
    StepArena arena(device);
    Tape tape(arena);
    const auto leaf = [&](const Shape& shape, const Buffer& data, const Buffer& grad) {
      return tape.leaf(data.tensor().viewed(shape), grad.tensor().viewed(shape));
    };
    const Buffer x = upload(test_values<float>(1, 24), device),
                 w = upload(test_values<float>(2, 16), device),
                 dx = upload(std::vector<float>(24), device),
                 dw = upload(std::vector<float>(16), device);
    const Tensor in = leaf({6, 4}, x, dx), weight = leaf({4, 4}, w, dw);
    const Tensor h = linear(in, weight, Tensor{}, {.gelu = true, .form = GeluForm::kErf});
    CHECK_FALSE(tape.take_slope(h).of.defined());  // nobody reads it
    (void)linear(h, weight, Tensor{});
    const Tape::Slope slope = tape.take_slope(h);
    CHECK(slope.of.defined() == (device == Device::kCuda));
    CHECK(tape.multiplied(h) == (device == Device::kCuda));
    if (slope.of.defined()) CHECK(slope.form == static_cast<int>(GeluForm::kErf));
    // Of a layer without GELU there is none.
    const Tensor plain = linear(in, weight, Tensor{});
    (void)linear(plain, weight, Tensor{});
    CHECK_FALSE(tape.take_slope(plain).of.defined());
  }
}
