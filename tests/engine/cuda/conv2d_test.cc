#include "engine/ops/conv2d.h"

#include <vector>

#include "engine/gemm/window_product.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using kernels::Tap;
using kernels::Trans;
using kernels::Windows;

namespace {

struct Case {
  Shape x;
  int64_t kernel, out;
  Conv2dOptions options;
  bool bias = false;
};
const Case kCases[] = {
    {{1, 3, 3, 1}, 3, 1, {1, 0}},          // one output pixel
    {{2, 5, 6, 3}, 3, 5, {1, 1}, true},    // no 16-byte accesses
    {{1, 9, 7, 4}, 3, 8, {2, 1}, true},    // with them
    {{1, 7, 7, 16}, 3, 12, {1, 1}},        // a tap is one step of k
    {{1, 6, 5, 20}, 2, 68, {3, 0}},        // gaps between windows; two tiles beside each other
    {{1, 12, 11, 3}, 7, 4, {2, 3}},        // the first layer at 224 px
    {{2, 4, 5, 36}, 1, 8, {2, 0}, true},   // a shortcut
    {{2, 4, 3, 6}, 1, 5, {1, 0}, true},    // a plain product
    {{1, 4, 3, 8}, 1, 4, {1, 1}},          // the same with a frame
    {{1, 7, 6, 1}, 11, 2, {1, 5}},         // the largest kernel
    {{3, 9, 9, 8}, 3, 72, {1, 1}, true},   // several tiles each way
    {{2, 17, 17, 4}, 3, 4, {1, 1}, true},  // several chunks of a weight's gradient
    {{2, 17, 18, 2}, 3, 3, {1, 0}},        // the same without 16-byte accesses
};

template <class T>
void check_case(const Case& c, Precision precision = Precision::kF32) {
  CAPTURE(c.x);
  CAPTURE(c.kernel);
  CAPTURE(c.out);
  CAPTURE(c.options.stride);
  CAPTURE(c.options.padding);
  std::vector<ParityInput> inputs{{c.x}, {{c.kernel, c.kernel, c.x[-1], c.out}}};
  if (c.bias) inputs.push_back({{c.out}});
  Conv2dOptions options = c.options;
  options.precision = precision;
  check_parity<T>(Device::kCuda, inputs, [&](Tape&, auto in) {
    return conv2d(in[0], in[1], c.bias ? in[2] : Tensor{}, options);
  });
}

// Windows of 2 x 2 over one picture of side x side.
struct Direct {
  std::vector<Tap> taps;
  Windows windows;
  Direct(int64_t side, int64_t channels) : taps{{0, 0, 0}, {0, 1, 1}, {1, 0, 2}, {1, 1, 3}} {
    windows = {1, side, side, channels, side - 1, side - 1, 1, taps};
  }
};

// c of one product, many tiles high.
std::vector<float> direct_product(Device device, Trans trans, int64_t channels, int64_t n) {
  const Direct d(112, channels);
  const Windows& w = d.windows;
  const Buffer x = upload(test_values<float>(1, w.in_h * w.in_w * channels), device);
  const Buffer weight = upload(test_values<float>(2, w.depth() * n), device);
  const Buffer bias = upload(test_values<float>(3, n), device);
  const Buffer c = upload(test_values<float>(4, w.rows() * n), device);
  on_device(device, [&](auto backend) {
    kernels::window_product<float>(backend, w, x.data<float>(), trans, weight.data<float>(), n,
                                   c.data<float>(), {w.out_h, w.out_w}, GradWrite::kAccumulate,
                                   bias.data<float>(), Precision::kF32);
  });
  return download<float>(c);
}

}  // namespace

TEST_CASE("cuda: convolutions as on the CPU" * doctest::skip(!cuda_available())) {
  for (const Case& c : kCases) {
    check_case<float>(c);
    check_case<double>(c);
  }
}

TEST_CASE("cuda: convolutions round to bf16 as on the CPU" * doctest::skip(!cuda_available())) {
  for (const size_t i : {1u, 2u, 4u, 6u, 7u}) check_case<float>(kCases[i], Precision::kBf16);
}

TEST_CASE("cuda: convolutions of many pixels as on the CPU" * doctest::skip(!cuda_available())) {
  for (const Trans trans : {Trans::kNo, Trans::kYes}) {
    for (const int64_t n : {64, 68}) {  // tiles of 128 x 64 and 128 x 128
      CAPTURE(n);
      const auto want = direct_product(Device::kCpu, trans, 4, n);
      const std::vector<double> wide(want.begin(), want.end());
      CHECK(worst_error(direct_product(Device::kCuda, trans, 4, n), wide) < tolerance<float>());
    }
  }
}

TEST_CASE("cuda: a convolved picture does not depend on its batch" *
          doctest::skip(!cuda_available())) {
  constexpr int64_t kBatch = 49;  // that many take large tiles, one takes small ones
  for (const int64_t n : {68, 64, 3}) {
    CAPTURE(n);
    const auto x = test_values<float>(5, kBatch * 256 * 4);
    const auto weight = test_values<float>(6, 36 * n);
    const auto run = [&](int64_t first, int64_t count) {
      StepArena arena(Device::kCuda);
      Tape tape(arena);
      const std::vector<float> part(x.begin() + first * 1024, x.begin() + (first + count) * 1024);
      return download<float>(conv2d(tape.input(on(arena, part, {count, 16, 16, 4})),
                                    tape.input(on(arena, weight, {3, 3, 4, n})), {}, {1, 1}));
    };
    const auto all = run(0, kBatch);
    for (const int64_t i : {0, 30}) {
      const std::vector<float> want(all.begin() + i * 256 * n, all.begin() + (i + 1) * 256 * n);
      CHECK(same_bits(run(i, 1), want));
    }
  }
}
