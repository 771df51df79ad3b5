#include "engine/ops/cast.h"

#include <cmath>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

// f32 -> bf16 -> f32, whose gradient passes through bf16 as well.
void check_there_and_back(int64_t count) {
  CAPTURE(count);
  auto values = test_values<float>(3, count, 50);
  if (count > 2) values[1] = std::nanf(""), values[2] = INFINITY;
  const auto seed_values = test_values<float>(4, count);
  const Buffer x = upload(values, {count}, Device::kCuda);
  const Buffer grad = upload(std::vector<float>(count, 1.0f), {count}, Device::kCuda);
  const Buffer seed = upload(seed_values, {count}, Device::kCuda);
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Tensor leaf = tape.leaf(x.tensor(), grad.tensor());
  const Tensor small = cast(leaf, Dtype::kBF16);
  CHECK(small.dtype() == Dtype::kBF16);
  CHECK(cast(small, Dtype::kBF16).raw() == small.raw());
  const Tensor y = cast(small, Dtype::kF32);
  tape.backward(y, seed.tensor());
  const auto got = download<float>(y), dx = download<float>(grad.tensor());
  for (size_t i = 0; i < got.size(); ++i) {
    const float want = to_float(to_bf16(values[i]));
    CHECK((got[i] == want || (std::isnan(got[i]) && std::isnan(want))));
    CHECK(dx[i] == 1 + to_float(to_bf16(seed_values[i])));
  }
}

}  // namespace

TEST_CASE("cuda: casts to bf16 and back" * doctest::skip(!cuda_available())) {
  for (const int64_t count : {1, 7, 8, 64, 1000, 4099}) check_there_and_back(count);
}

TEST_CASE("cast: bf16 is refused on the CPU") {
  StepArena arena;
  Tape tape(arena);
  const std::vector<float> values(4, 1.0f);
  const Buffer x = upload(values, {4}, Device::kCpu);
  const Tensor in = tape.input(x.tensor());
  CHECK(cast(in, Dtype::kF32).raw() == in.raw());
  CHECK_THROWS_WITH_AS(cast(in, Dtype::kBF16),
                       doctest::Contains("tensors stored in bf16 are for CUDA devices"), Error);
  CHECK_THROWS_WITH_AS(cast(in, Dtype::kI32), doctest::Contains("expected f32 and bf16"), Error);
}
