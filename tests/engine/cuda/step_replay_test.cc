#include "engine/core/step_replay.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <vector>

#include "engine/core/cuda_workspace.h"
#include "engine/core/device_memory.h"
#include "engine/ops/linear_kernels.h"
#include "engine/ops/pointwise_kernels.h"
#include "tests/support/devices.h"

using namespace engine;
using namespace engine::test;

namespace {

// y = 2 x, then y += y, on the device.
void put_fourfold(const Tensor& x, const Tensor& y) {
  if constexpr (kCudaEnabled) {
    kernels::put_scaled(cuda_backend(), x.data<const float>(), 2.0f, y.data<float>(), x.numel(),
                        GradWrite::kOverwrite);
    kernels::put_scaled(cuda_backend(), y.data<const float>(), 1.0f, y.data<float>(), x.numel(),
                        GradWrite::kAccumulate);
  }
}

}  // namespace

TEST_CASE("cuda: recorded work runs when it is asked to, on what is there then" *
          doctest::skip(!cuda_available())) {
  const Buffer x = upload(std::vector<float>{1, 2, 3}, Device::kCuda);
  const Buffer y = upload(std::vector<float>{7, 7, 7}, Device::kCuda);
  if constexpr (kCudaEnabled) {
    const auto work = record_step([&] { put_fourfold(x.tensor(), y.tensor()); });
    CHECK(download<float>(y) == std::vector<float>{7, 7, 7});
    work->run();
    CHECK(download<float>(y) == std::vector<float>{4, 8, 12});
    const std::vector<float> next = {5, 0, -1};
    device_upload(x.tensor().raw(), next.data(), x.tensor().bytes());
    work->run();
    work->run();
    CHECK(download<float>(y) == std::vector<float>{20, 0, -4});
  }
}

// Otherwise the replay would write into what somebody else has got since.
TEST_CASE("cuda: a recorded step keeps its workspace when others need a larger one" *
          doctest::skip(!cuda_available())) {
  if constexpr (kCudaEnabled) {
    const Buffer x = upload(test_values<float>(1, 600), {100, 6}, Device::kCuda);
    const Buffer sums = upload(std::vector<float>(6), Device::kCuda);
    int64_t size = kCudaWorkspaceBytes;
    (void)cuda_workspace(size);
    const auto work = record_step([&] {
      kernels::add_column_sums(cuda_backend(), x.data<const float>(), nullptr, 1, {100, 6},
                               sums.data<float>());
    });
    size *= 2;
    (void)cuda_workspace(size);
    const std::vector<float> marks(static_cast<size_t>(kCudaWorkspaceBytes) / sizeof(float), 3.0f);
    const Buffer other = upload(marks, Device::kCuda);
    work->run();
    CHECK(same_bits(download<float>(other), marks));
    const auto got = download<float>(sums), values = download<float>(x);
    double want = 0;
    for (size_t r = 0; r < 100; ++r) want += static_cast<double>(values[6 * r + 5]);
    CHECK(static_cast<double>(got[5]) == doctest::Approx(want).epsilon(1e-5));
  }
}

TEST_CASE("cuda: what a recording cannot hold is refused, and the device goes on" *
          doctest::skip(!cuda_available())) {
  const Buffer x = upload(std::vector<float>{1, 2, 3}, Device::kCuda);
  const Buffer y = upload(std::vector<float>{7, 7, 7}, Device::kCuda);
  if constexpr (kCudaEnabled) {
    const std::vector<float> host(3);
    const auto refused = [&](const char* text, auto&& body) {
      CHECK_THROWS_WITH_AS((void)record_step([&] {
                             put_fourfold(x.tensor(), y.tensor());
                             body();
                           }),
                           doctest::Contains(text), Error);
    };
    refused("wait for the device", [] { device_synchronize(Device::kCuda); });
    refused("wait for a copy", [&] { (void)download<float>(y); });
    refused("copy from the host",
            [&] { device_upload(x.tensor().raw(), host.data(), x.tensor().bytes()); });
    refused("take device memory",
            [] { device_free(Device::kCuda, device_allocate(Device::kCuda, 8)); });
    CHECK_THROWS_AS((void)record_step([] { throw std::runtime_error("other"); }),
                    std::runtime_error);
    CHECK(download<float>(y) == std::vector<float>{7, 7, 7});
    put_fourfold(x.tensor(), y.tensor());
    CHECK(download<float>(y) == std::vector<float>{4, 8, 12});
  }
}
