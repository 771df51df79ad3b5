#include "engine/core/buffer.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "engine/config.h"
#include "engine/core/communicator.h"
#include "engine/core/device_memory.h"
#include "engine/core/workspace.h"
#include "tests/support/tensors.h"

using namespace engine;
using engine::test::caught;

namespace {

bool on_64_bytes(const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

}  // namespace

TEST_CASE("buffer: starts as zeros on 64 bytes") {
  for (const int64_t n : {1, 15, 16, 17, 100'003}) {
    const Buffer b({n}, Dtype::kF32);
    CHECK(b.tensor().shape() == Shape{n});
    CHECK(on_64_bytes(b.tensor().raw()));
    bool zeros = true;
    for (int64_t i = 0; i < n; ++i) zeros &= b.data<float>()[i] == 0;
    CHECK(zeros);
  }
  CHECK(Buffer({2, 0}, Dtype::kU8).tensor().defined());
  CHECK_FALSE(Buffer().tensor().defined());
}

TEST_CASE("buffer: moves and never copies") {
  static_assert(!std::is_copy_constructible_v<Buffer> && !std::is_copy_assignable_v<Buffer>);
  Buffer a({3}, Dtype::kF64);
  a.data<double>()[1] = 7;
  const double* data = a.data<const double>();
  Buffer b(std::move(a));
  CHECK(b.data<const double>() == data);
  CHECK_FALSE(a.tensor().defined());  // NOLINT(bugprone-use-after-move): what it promises
  Buffer c({5}, Dtype::kI32);
  c = std::move(b);
  CHECK(c.data<const double>() == data);
  CHECK(c.data<const double>()[1] == 7);
  CHECK(c.tensor().shape() == Shape{3});
}

TEST_CASE("buffer: reading another type fails") {
  const Buffer b({3}, Dtype::kI32);
  CHECK(caught([&] { b.data<float>(); }).is(ErrorKind::kDtype, {"i32", "f32"}));
}

TEST_CASE("device memory: copies and zeros on the CPU") {
  std::vector<int32_t> from = {1, 2, 3}, to(3);
  device_copy(Device::kCpu, to.data(), Device::kCpu, from.data(), 12);
  CHECK(to == from);
  device_zero(Device::kCpu, to.data(), 8);
  CHECK(to == std::vector<int32_t>{0, 0, 3});
  device_copy(Device::kCpu, nullptr, Device::kCpu, nullptr, 0);
  device_zero(Device::kCpu, nullptr, 0);
  device_free(Device::kCpu, nullptr);
}

TEST_CASE("device memory: says what it cannot do") {
  CHECK(caught([] { device_allocate(Device::kCpu, -5); }).is(ErrorKind::kInternal, {"-5"}));
  if (kCudaEnabled) return;
  float v = 0;
  CHECK(caught([] { Buffer({4}, Dtype::kF32, Device::kCuda); }).is(ErrorKind::kDevice));
  CHECK(caught([&] { device_zero(Device::kCuda, &v, 4); }).is(ErrorKind::kDevice));
  CHECK(
      caught([&] { device_copy(Device::kCpu, &v, Device::kCuda, &v, 4); }).is(ErrorKind::kDevice));
}

TEST_CASE("workspace: grows and keeps and parts are independent") {
  float* a = workspace<float>(0, 1000);
  float* b = workspace<float>(1, 1000);
  CHECK(on_64_bytes(a));
  CHECK(a != b);
  CHECK(workspace<float>(0, 10) == a);
  float* larger = workspace<float>(0, 1'000'000);
  larger[999'999] = 1;
  CHECK(workspace<float>(0, 500'000) == larger);
  CHECK(workspace<float>(1, 1000) == b);
  CHECK(caught([] { workspace<float>(kWorkspaceParts, 1); }).is(ErrorKind::kInternal));
  CHECK(caught([] { workspace<float>(-1, 1); }).is(ErrorKind::kInternal));
}

TEST_CASE("communicator: one process leaves sums as they are") {
  SingleProcess alone;
  std::vector<float> v = {1, 2};
  alone.all_reduce_sum(test::view(v, {2}));
  CHECK(v == std::vector<float>{1, 2});
  CHECK(alone.rank() == 0);
  CHECK(alone.size() == 1);
}
