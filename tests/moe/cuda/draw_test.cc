#include "moe/draw_kernels.h"

#include <doctest/doctest.h>

#include <numeric>

#include "engine/core/upload.h"
#include "moe/moe_layer.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
namespace kernels = moe::kernels;

namespace {

std::vector<int64_t> some_ids(int64_t images) {
  std::vector<int64_t> ids(static_cast<size_t>(images));
  std::iota(ids.begin(), ids.end(), int64_t{1} << 33);
  std::reverse(ids.begin(), ids.end());
  return ids;
}

template <class T>
std::vector<T> noise_on(Device device, int64_t images, int64_t tokens, int64_t experts) {
  StepArena arena(device);
  Tape tape(arena);
  auto ids = some_ids(images);
  nn::Forward f{.tape = tape, .mode = nn::Mode::kTrain, .seed = 5, .step = 3, .sample_ids = ids};
  moe::Routing r;
  r.layer = 2;
  r.images = images;
  r.tokens = tokens;
  r.sigma = 0.375;
  const Tensor logits = arena.empty({images * tokens, experts}, dtype_of<T>());
  const Tensor noise = moe::router_noise(f, logits, {}, r);
  std::fill(ids.begin(), ids.end(), 0);  // was read
  return download<T>(noise);
}

// The mask of a plan with a capacity, and how many slots are used.
template <class T>
std::vector<T> mask_on(Device device, int64_t width, bool by_slot, int64_t* used) {
  constexpr int64_t kImages = 3, kTokens = 11, kExperts = 4, kChoices = 2;
  StepArena arena(device);
  Tape tape(arena);
  std::vector<int32_t> chosen;
  for (int32_t i = 0; i < kImages * kTokens; ++i) {
    chosen.push_back(i * i % 3);  // nobody wants expert 3 first
    chosen.push_back(3 - i % 3 % 2);
    if (chosen[chosen.size() - 2] == chosen.back()) chosen.back() = 0;
  }
  const moe::DispatchPlan plan =
      moe::make_plan(tape, on(arena, chosen, {kImages * kTokens, kChoices}), kExperts, 13, 33);
  const auto ids = some_ids(kImages);
  const kernels::MaskSlots slots{plan.map.choice_of_slot.data<int32_t>(),
                                 plan.expert_of.data<int32_t>(),
                                 plan.offset.data<int32_t>(),
                                 plan.map.choice_of_slot.numel(),
                                 width,
                                 kTokens * kChoices,
                                 by_slot};
  const Tensor mask = arena.empty({slots.slots, width}, dtype_of<T>());
  const int64_t* names = upload(arena, ids);
  on_device(device, [&](auto backend) {
    kernels::put_mask(backend, RngKey(4, Purpose::kTest), names, 0.3, slots, mask.data<T>());
  });
  *used = download<int32_t>(plan.offset).back();
  return download<T>(mask);
}

template <class T>
void check_draws() {
  for (const auto& each :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 5, 7}, {2, 65, 8}, {300, 2, 3}}) {
    const auto images = std::get<0>(each), tokens = std::get<1>(each), experts = std::get<2>(each);
    CAPTURE(images);
    CHECK(same_bits(noise_on<T>(Device::kCuda, images, tokens, experts),
                    noise_on<T>(Device::kCpu, images, tokens, experts)));
  }
  for (const int64_t width : {1, 2, 7, 256, 515}) {
    for (const bool by_slot : {false, true}) {
      CAPTURE(width);
      CAPTURE(by_slot);
      int64_t used = 0, same = 0;
      auto got = mask_on<T>(Device::kCuda, width, by_slot, &used);
      CHECK(static_cast<int64_t>(got.size()) == 52 * width);
      const auto want = mask_on<T>(Device::kCpu, width, by_slot, &same);
      REQUIRE(used == same);
      CHECK(std::all_of(got.begin() + used * width, got.end(), [](T x) { return x == 0; }));
      got.resize(static_cast<size_t>(used * width));
      CHECK(same_bits(got, want));
    }
  }
}

}  // namespace

TEST_CASE("cuda: noise and dropout masks have the CPU's bits" * doctest::skip(!cuda_available())) {
  check_draws<float>();
  check_draws<double>();
}

TEST_CASE("cuda: many normals have the CPU's bits" * doctest::skip(!cuda_available())) {
  // The middle and both tails of AS 241.
  StepArena arena(Device::kCuda), host;
  const RowsCols size{2, 30000};
  const Tensor a = arena.empty({size.rows, size.cols}, Dtype::kF64);
  const Tensor b = host.empty({size.rows, size.cols}, Dtype::kF64);
  const std::vector<int64_t> ids = {-4, 9};
  const RngKey key(11, Purpose::kTest);
  kernels::put_noise(Cpu{}, key, ids.data(), 1, size, b.data<double>());
  const int64_t* names = upload(arena, ids);
  on_device(Device::kCuda, [&](auto backend) {
    kernels::put_noise(backend, key, names, 1, size, a.data<double>());
  });
  const auto got = download<double>(a);
  CHECK(same_bits(got, download<double>(b)));
  CHECK(*std::max_element(got.begin(), got.end()) > 3.5);
}

TEST_CASE("cuda: an upload of any length" * doctest::skip(!cuda_available())) {
  for (const int64_t count : {0, 1, 255, 256, 257, 700}) {
    CAPTURE(count);
    StepArena arena(Device::kCuda);
    const auto ids = some_ids(count);
    auto moving = ids;
    const int64_t* there = upload(arena, moving);
    std::fill(moving.begin(), moving.end(), -1);
    std::vector<int64_t> back(ids.size());
    device_copy(Device::kCpu, back.data(), Device::kCuda, there, count * 8);
    CHECK(back == ids);
  }
}
