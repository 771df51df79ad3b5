#include "engine/ops/mix_images.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"

using namespace engine;
using engine::test::caught;
using engine::test::values;

namespace {

// mix_images of images [begin, end) as a plain array.
template <class T>
std::vector<T> mixed(std::vector<T> x, const Shape& shape, const std::vector<ImageMix>& mixes,
                     int64_t begin, int64_t end) {
  StepArena arena;
  Tape tape(arena);
  const Tensor in(x.data(), shape, std::is_same_v<T, float> ? Dtype::kF32 : Dtype::kF64,
                  Device::kCpu);
  const Tensor y = mix_images(tape.input(in), mixes, begin, end);
  CHECK(y.shape() == Shape{end - begin, shape[1], shape[2], shape[3]});
  CHECK(!tape.wants_grad(y));
  const T* out = y.template data<const T>();
  return {out, out + y.numel()};
}

}  // namespace

TEST_CASE("mix_images: matches plain loops, whole batches and parts") {
  const Shape shape{5, 2, 3, 4};
  const std::vector<ImageMix> mixes = {
      {.partner = 1, .own = 0.75f},
      {.partner = 0, .own = 1, .y = 1, .x = 2, .height = 2, .width = 2},
      {.partner = 4, .own = 0.5f, .y = 0, .x = 0, .height = 3, .width = 1},
      {.partner = 3, .own = 0},
      {.partner = 2, .own = 1}};
  const auto x = values<double>(shape.numel(), 3);
  std::vector<double> want(x.size());
  for (int64_t n = 0; n < 5; ++n) {
    const ImageMix& m = mixes[static_cast<size_t>(n)];
    for (int64_t i = 0; i < 24; ++i) {
      const int64_t h = i / 4 % 3, w = i % 4;
      const bool in_box = h >= m.y && h < m.y + m.height && w >= m.x && w < m.x + m.width;
      const double a = in_box ? 0 : m.own;
      want[n * 24 + i] = a * x[n * 24 + i] + (1 - a) * x[m.partner * 24 + i];
    }
  }
  CHECK(mixed(x, shape, mixes, 0, 5) == want);
  for (int64_t begin = 0; begin < 5; ++begin) {
    const auto part = mixed(x, shape, mixes, begin, begin + 1);
    CHECK(part == std::vector<double>(want.begin() + begin * 24, want.begin() + (begin + 1) * 24));
  }
  CHECK(mixed(x, shape, mixes, 3, 3).empty());
  // In f32 a pixel is a product, a product and a sum, each rounded.
  const auto f = values<float>(shape.numel(), 3);
  const auto y = mixed(f, shape, mixes, 0, 5);
  CHECK(y[0] == 0.75f * f[0] + 0.25f * f[24]);
  CHECK(y[4 * 24 + 7] == f[4 * 24 + 7]);
}

TEST_CASE("mix_images: bad input is refused") {
  const Shape shape{2, 1, 3, 4};
  const auto x = values<float>(shape.numel(), 1);
  const auto error = [&](const ImageMix& mix) {
    return caught([&] { mixed(x, shape, {ImageMix{}, mix}, 0, 2); }).message;
  };
  CHECK(error({.partner = 2}) == "mix_images: image 1 has partner 2 of 2 images");
  CHECK(error({.partner = -1}) == "mix_images: image 1 has partner -1 of 2 images");
  CHECK(error({.own = 1.5f}) == "mix_images: image 1 has weight 1.5, expected 0 to 1");
  CHECK(error({.y = 2, .height = 2, .width = 1}) ==
        "mix_images: image 1 has a box of 2x1 at 2,0, outside 3x4 pixels");
  CHECK(caught([&] { mixed(x, shape, {ImageMix{}}, 0, 1); }).message ==
        "mix_images: expected images (N, C, H, W) and N mixes, got (2,1,3,4) and 1");
  CHECK(caught([&] {
          mixed(x, shape, {ImageMix{}, ImageMix{}}, 1, 3);
        }).message == "mix_images: images 1 to 3 of 2");
  StepArena arena;
  Tape tape(arena);
  auto pixels = x, grad = x;
  const Tensor leaf = tape.leaf(Tensor(pixels.data(), shape, Dtype::kF32, Device::kCpu),
                                Tensor(grad.data(), shape, Dtype::kF32, Device::kCpu));
  const std::vector<ImageMix> none(2);
  CHECK(caught([&] { mix_images(leaf, none, 0, 2); }).message ==
        "mix_images: has no gradient, but its input wants one");
}
