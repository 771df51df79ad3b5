#include "engine/ops/attention.h"

#include "engine/ops/attention_kernels.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

struct Sizes {
  int64_t batch, tokens, heads, dim;
  Shape shape() const { return {batch, tokens, 3 * heads * dim}; }
};

ParityOp attention_of(int64_t heads, Precision precision = Precision::kF32) {
  return [=](Tape&, auto in) { return attention(in[0], heads, precision); };
}

// Both sides of a tile of keys (8, 16, 32) and of rows (16 ... 64); head_dim on both sides of each
// tile's, and where rows cannot be read 16 bytes at a time.
const Sizes kSizes[] = {{2, 1, 2, 3},   {1, 2, 1, 16},  {2, 17, 3, 3},  {1, 33, 2, 16},
                        {2, 33, 1, 32}, {1, 65, 1, 32}, {1, 17, 2, 36}, {2, 33, 2, 64},
                        {1, 64, 1, 64}, {1, 65, 1, 64}, {1, 33, 1, 65}, {2, 17, 1, 128},
                        {1, 65, 1, 30}, {0, 4, 1, 2}};

template <class T>
struct Pass {
  std::vector<T> y, gradient;
};

// y and d sum(c y) / d qkv, the cotangent c being the same for every image.
template <class T>
Pass<T> run(Device device, const std::vector<T>& qkv, const Sizes& s,
            Precision precision = Precision::kF32) {
  StepArena arena(device);
  Tape tape(arena);
  const Buffer values = upload(qkv, s.shape(), device);
  const Buffer gradient = upload(std::vector<T>(qkv.size()), s.shape(), device);
  const Tensor y = attention(tape.leaf(values.tensor(), gradient.tensor()), s.heads, precision);
  const auto one = test_values<T>(3, y.numel() / s.batch);
  std::vector<T> cotangent;
  for (int64_t b = 0; b < s.batch; ++b) cotangent.insert(cotangent.end(), one.begin(), one.end());
  tape.backward(y, upload(cotangent, y.shape(), device).tensor());
  return {download<T>(y), download<T>(gradient)};
}

template <class T>
double error_of(const std::vector<T>& got, const std::vector<T>& want) {
  return worst_error(got, std::vector<double>(want.begin(), want.end()));
}

}  // namespace

TEST_CASE("cuda: attention as on the CPU" * doctest::skip(!cuda_available())) {
  for (const Sizes& s : kSizes) {
    CAPTURE(s.shape());
    CAPTURE(s.dim);
    check_parity<float>(Device::kCuda, {{s.shape(), 2}}, attention_of(s.heads));
    check_parity<double>(Device::kCuda, {{s.shape(), 2}}, attention_of(s.heads));
  }
  check_parity<float>(Device::kCuda, {{{1, 197, 3 * 64}, 2}}, attention_of(1));
}

TEST_CASE("cuda: attention in bf16 rounds operands" * doctest::skip(!cuda_available())) {
  // 2^-8 is the largest relative error of a rounding; the CPU rounds p, this one 2^(s - top), so
  // that roundings differ, but are as many.
  for (const Sizes& s : kSizes) {
    CAPTURE(s.shape());
    check_parity<float>(Device::kCuda, {{s.shape(), 2}}, attention_of(s.heads, Precision::kBf16),
                        0x1p-8);
  }
  // More rows than a block's 8 warps have.
  check_parity<float>(Device::kCuda, {{{1, 145, 3 * 16}, 2}}, attention_of(1, Precision::kBf16),
                      0x1p-8);
  // One token: p = 1, so y is v rounded and dv the cotangent rounded.
  const auto x = test_values<float>(1, 12);
  const auto got = run(Device::kCuda, x, {1, 1, 1, 4}, Precision::kBf16);
  const auto dy = test_values<float>(3, 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(got.y[i] == to_float(to_bf16(x[8 + i])));
    CHECK(got.gradient[8 + i] == to_float(to_bf16(dy[i])));
    CHECK(std::abs(got.gradient[i]) < 1e-6);
  }
  // Weights are rounded as well: the other operands of y and dqkv are in bf16 already, but for the
  // cotangent.
  const Sizes s{1, 33, 2, 32};
  auto wide = test_values<float>(1, s.shape().numel(), 2);
  round_to_bf16(wide.data(), s.shape().numel());
  const auto f32 = run(Device::kCuda, wide, s),
             bf16 = run(Device::kCuda, wide, s, Precision::kBf16);
  CHECK(error_of(bf16.y, f32.y) > 1e-4);
  CHECK(error_of(bf16.gradient, f32.gradient) > 1e-4);
}

TEST_CASE("cuda: attention with large scores" * doctest::skip(!cuda_available())) {
  // Scores to +-3600 * sqrt(D): one key takes all, whichever tile of keys it is in.
  const Sizes s{1, 70, 1, 16};
  const auto x = test_values<double>(1, s.shape().numel(), 60);
  const auto want = run(Device::kCpu, x, s), got = run(Device::kCuda, x, s);
  CHECK(error_of(got.y, want.y) < 1e-11);
  CHECK(error_of(got.gradient, want.gradient) < 1e-11);
  const std::vector<float> narrow(x.begin(), x.end());
  for (const Precision precision : {Precision::kF32, Precision::kBf16}) {
    const auto f32 = run(Device::kCuda, narrow, s, precision);
    CHECK(std::isfinite(error_of(f32.y, f32.y)));
    CHECK(std::isfinite(error_of(f32.gradient, f32.gradient)));
  }
  CHECK(error_of(run(Device::kCuda, narrow, s).y, run(Device::kCpu, narrow, s).y) < 1e-3);

  // All scores far below 0: weights of keys that do not exist would be infinite.
  std::vector<float> low(static_cast<size_t>(s.shape().numel()), 40.0f);
  for (size_t i = 0; i < low.size(); i += 48) std::fill_n(low.begin() + i, 16, -40.0f);
  const auto even = run(Device::kCuda, low, s);
  CHECK(error_of(even.y, run(Device::kCpu, low, s).y) < 1e-5);
  CHECK(std::isfinite(error_of(even.gradient, even.gradient)));
}

TEST_CASE("cuda: attention of an image in any batch" * doctest::skip(!cuda_available())) {
  const auto check_image = []<class T>(const Sizes& s, Precision precision) {
    CAPTURE(s.shape());
    const auto x = test_values<T>(1, s.shape().numel(), 2);
    const auto all = run(Device::kCuda, x, s, precision);
    for (int64_t b = 0; b < s.batch; ++b) {
      const auto part = [&](const std::vector<T>& v) {
        const int64_t n = static_cast<int64_t>(v.size()) / s.batch;
        return std::vector<T>(v.begin() + b * n, v.begin() + (b + 1) * n);
      };
      const auto one = run(Device::kCuda, part(x), {1, s.tokens, s.heads, s.dim}, precision);
      CHECK(same_bits(one.y, part(all.y)));
      CHECK(same_bits(one.gradient, part(all.gradient)));
    }
  };
  check_image.operator()<float>({3, 35, 2, 32}, Precision::kF32);
  check_image.operator()<float>({3, 35, 2, 32}, Precision::kBf16);
  check_image.operator()<double>({2, 17, 2, 5}, Precision::kF32);
}

TEST_CASE("cuda: attention after kernels that left NaN" * doctest::skip(!cuda_available())) {
  // In shared memory, where fewer tokens leave more of it unwritten.
  for (const Precision precision : {Precision::kF32, Precision::kBf16}) {
    const Sizes full{1, 64, 1, 32}, less{1, 17, 1, 20};
    run(Device::kCuda, std::vector<float>(full.shape().numel(), NAN), full, precision);
    const auto x = test_values<float>(1, less.shape().numel(), 2);
    const auto got = run(Device::kCuda, x, less, precision);
    const auto want = run(Device::kCpu, x, less, precision);
    const double bound = precision == Precision::kF32 ? tolerance<float>() : 0x1p-8;
    CHECK(error_of(got.y, want.y) < bound);
    CHECK(error_of(got.gradient, want.gradient) < bound);
  }
}

TEST_CASE("cuda: attention saves one number a row" * doctest::skip(!cuda_available())) {
  on_device(Device::kCuda, [](auto backend) {
    CHECK(kernels::attention_saved(backend, {2, 5, 3, 8}) ==
          (std::is_same_v<decltype(backend), Cpu> ? 150 : 30));
  });
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Buffer wide(Shape{1, 2, 3 * 129}, Dtype::kF32, Device::kCuda);
  CHECK_THROWS_AS(attention(tape.input(wide.tensor()), 1), Error);
}
