#include "engine/ops/add_scaled.h"
#include "engine/ops/mix_images.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

template <class T>
void check_add_scaled() {
  // Images smaller and larger than a block, with and without 16-byte accesses.
  const std::vector<float> factors{1.25f, 0, -0.5f};
  for (const int64_t size : {1, 8, 257, 1028, 3001}) {
    CAPTURE(size);
    const ParityInput x{{3, size}};
    check_parity<T>(Device::kCuda, {x, x},
                    [&](Tape&, auto in) { return add_scaled(in[0], in[1], factors); });
  }
}

std::vector<ImageMix> mixes() {
  return {{.partner = 2, .own = 0.75f},
          {.partner = 0, .own = 1, .y = 1, .x = 2, .height = 3, .width = 4},
          {.partner = 1, .own = 0.5f, .y = 0, .x = 0, .height = 2, .width = 1},
          {.partner = 3}};
}

template <class T>
void check_mix_images() {
  for (const Shape& shape : {Shape{4, 3, 5, 7}, Shape{4, 2, 16, 16}}) {
    for (const auto& each : {std::pair{0, 4}, {1, 3}, {2, 2}}) {
      const auto begin = std::get<0>(each), end = std::get<1>(each);
      CAPTURE(begin);
      check_parity<T>(Device::kCuda, {{shape, 1, 0, false}}, [b = begin, e = end](Tape&, auto in) {
        return mix_images(in[0], mixes(), b, e);
      });
    }
  }
}

}  // namespace

TEST_CASE("cuda: add_scaled and mix_images as on the CPU" * doctest::skip(!cuda_available())) {
  check_add_scaled<float>();
  check_add_scaled<double>();
  check_mix_images<float>();
  check_mix_images<double>();
}

TEST_CASE("cuda: a branch of factor 0 and an unmixed partner are not read" *
          doctest::skip(!cuda_available())) {
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  const Tensor x = tape.input(on<float>(arena, {1, 2, NAN, 4}, {2, 2}));
  const Tensor branch = on<float>(arena, {NAN, INFINITY, 5, 6}, {2, 2});
  const std::vector<float> factors{0, 2};
  CHECK(download<float>(add_scaled(x, branch, factors))[1] == 2);
  const std::vector<ImageMix> own{{.partner = 1}, {.partner = 0}};
  const Tensor images = tape.input(x.viewed({2, 1, 1, 2}));
  CHECK(download<float>(mix_images(images, own, 0, 1)) == std::vector<float>{1, 2});
}

TEST_CASE("cuda: what the host uploads arrives, and its memory is free at once" *
          doctest::skip(!cuda_available())) {
  for (const int64_t count : {0, 1, 3840, 3841, 65536, 65537}) {
    CAPTURE(count);
    StepArena arena(Device::kCuda);
    std::vector<uint8_t> bytes;
    for (int64_t i = 0; i < count; ++i) bytes.push_back(static_cast<uint8_t>(i * 7 + i / 251));
    const std::vector<uint8_t> want = bytes;
    const void* there = to_device(arena, bytes.data(), count);
    std::ranges::fill(bytes, uint8_t{0});
    device_copy(Device::kCpu, bytes.data(), Device::kCuda, there, count);
    CHECK(bytes == want);
  }
}
