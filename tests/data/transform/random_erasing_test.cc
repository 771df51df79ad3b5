#include "data/transform/random_erasing.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using data::erase_randomly;

namespace {

engine::RngStream stream(int i) {
  return engine::RngStream(
      engine::RngKey(4, engine::Purpose::kTest).with(static_cast<uint64_t>(i)));
}

// The erased box of a view of ones; height 0 where there is none.
struct Box {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

Box box_of(const std::vector<float>& view, int64_t size) {
  int64_t top = size, left = size, bottom = 0, right = 0, zeros = 0;
  for (int64_t y = 0; y < size; ++y) {
    for (int64_t x = 0; x < size; ++x) {
      if (view[static_cast<size_t>(y * size + x)] != 0) continue;
      top = std::min(top, y), left = std::min(left, x);
      bottom = std::max(bottom, y + 1), right = std::max(right, x + 1);
      ++zeros;
    }
  }
  if (zeros == 0) return {};
  CHECK(zeros == (bottom - top) * (right - left));  // a box and nothing else
  return {top, left, bottom - top, right - left};
}

}  // namespace

TEST_CASE("random erasing: as often, as large and as shaped as torchvision's") {
  constexpr int64_t kSize = 40;
  constexpr int kViews = 20000;
  int erased = 0, tall = 0, top_half = 0;
  double area = 0;
  for (int i = 0; i < kViews; ++i) {
    std::vector<float> view(3 * kSize * kSize, 1.0f);
    engine::RngStream rng = stream(i);
    const bool done = erase_randomly(view.data(), 3, kSize, 0.25, rng);
    const Box box = box_of(view, kSize);
    CHECK(done == (box.height > 0));
    if (!done) continue;
    for (size_t p = 0; p < kSize * kSize; ++p) {  // all channels alike
      if (view[p] != view[p + kSize * kSize] || view[p] != view[p + 2 * kSize * kSize]) FAIL("box");
    }
    ++erased;
    tall += box.height > box.width;
    top_half += 2 * box.top + box.height < kSize;
    CHECK((box.height < kSize && box.width < kSize));
    const auto h = static_cast<double>(box.height), w = static_cast<double>(box.width);
    const double share = h * w / (kSize * kSize);
    CHECK(share > 0.015);  // 2 %, rounded
    CHECK(share < 0.36);
    CHECK((h + 0.5) / (w - 0.5) > 0.3);
    CHECK((h - 0.5) / (w + 0.5) < 3.3);
    area += share;
  }
  // One of 4 views; the first box nearly always fits.
  CHECK(std::abs(erased - kViews / 4) < 5 * std::sqrt(kViews * 0.25 * 0.75));
  // Log-uniform: as often taller as wider (few are square).
  CHECK(tall == doctest::Approx(0.49 * erased).epsilon(0.06));
  CHECK(top_half == doctest::Approx(0.49 * erased).epsilon(0.06));
  CHECK(area / erased == doctest::Approx(0.172).epsilon(0.03));  // near (2 + 33) / 2 %
}

TEST_CASE("random erasing: never, always, and where nothing fits") {
  std::vector<float> view(25, 1.0f);
  for (int i = 0; i < 100; ++i) {
    engine::RngStream rng = stream(i);
    CHECK_FALSE(erase_randomly(view.data(), 1, 5, 0, rng));
  }
  int erased = 0;
  for (int i = 0; i < 100; ++i) {
    std::vector<float> large(64 * 64, 1.0f);
    engine::RngStream rng = stream(i);
    erased += erase_randomly(large.data(), 1, 64, 1, rng);
  }
  CHECK(erased == 100);
  for (int i = 0; i < 100; ++i) {  // a view of one pixel has no smaller box but an empty one
    float pixel = 1;
    engine::RngStream rng = stream(i);
    CHECK_FALSE(erase_randomly(&pixel, 1, 1, 1, rng));
    CHECK(pixel == 1);
  }
}
