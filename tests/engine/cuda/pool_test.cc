#include "engine/ops/pool.h"

#include <cmath>
#include <limits>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

// Windows that overlap, touch and leave gaps, with and without padding, of odd sizes.
constexpr PoolOptions kOptions[] = {{2, 2, 0}, {3, 2, 1}, {3, 1, 1}, {2, 3, 1},
                                    {1, 1, 0}, {5, 3, 2}, {4, 2, 1}, {7, 7, 0}};

template <class T>
void check_pools() {
  for (const Shape& shape : {Shape{2, 8, 8, 4}, Shape{1, 7, 9, 3}, Shape{3, 12, 7, 33}}) {
    for (const PoolOptions& options : kOptions) {
      CAPTURE(shape);
      CAPTURE(options.kernel);
      CAPTURE(options.stride);
      CAPTURE(options.padding);
      check_parity<T>(Device::kCuda, {{shape, 2}},
                      [&](Tape&, auto in) { return max_pool2d(in[0], options); });
      check_parity<T>(Device::kCuda, {{shape, 2}},
                      [&](Tape&, auto in) { return average_pool2d(in[0], options); });
    }
  }
}

// y and dx for x as it is; dy counts up.
std::vector<std::vector<float>> max_pool_of(Device device, const std::vector<float>& x,
                                            const Shape& shape, const PoolOptions& options) {
  StepArena arena(device);
  Tape tape(arena);
  const Buffer gradient(shape, Dtype::kF32, device);
  const Tensor y = max_pool2d(tape.leaf(on(arena, x, shape), gradient.tensor()), options);
  std::vector<float> dy;
  for (int64_t i = 0; i < y.numel(); ++i) dy.push_back(static_cast<float>(i + 1));
  const Tensor seed = on(arena, dy, y.shape());
  tape.backward(y, seed);
  return {download<float>(y), download<float>(gradient)};
}

}  // namespace

TEST_CASE("cuda: pooling as on the CPU" * doctest::skip(!cuda_available())) {
  check_pools<float>();
  check_pools<double>();
}

TEST_CASE("cuda: equal, infinite and NaN values win a pool as on the CPU" *
          doctest::skip(!cuda_available())) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Shape shape{1, 6, 6, 2};
  std::vector<float> x = test_values<float>(9, shape.numel());
  for (float& v : x) v = std::round(2 * v);  // many are equal
  for (const size_t i : {3u, 4u, 20u}) x[i] = nan;
  for (const size_t i : {0u, 2u, 12u, 14u, 7u, 60u, 62u, 70u}) x[i] = -inf;
  x[40] = inf;
  for (const PoolOptions& options : kOptions) {
    if (options.kernel > 6) continue;
    CAPTURE(options.kernel);
    const auto want = max_pool_of(Device::kCpu, x, shape, options);
    const auto got = max_pool_of(Device::kCuda, x, shape, options);
    CHECK(same_bits(got[0], want[0]));
    CHECK(same_bits(got[1], want[1]));
  }
  const auto none = std::vector<float>(static_cast<size_t>(shape.numel()), -inf);
  CHECK(same_bits(max_pool_of(Device::kCuda, none, shape, {2, 2, 0})[1],
                  max_pool_of(Device::kCpu, none, shape, {2, 2, 0})[1]));
}
