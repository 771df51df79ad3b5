#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "data/transform/inception_crop.h"
#include "tests/support/sanitized.h"
#include "tests/support/tensors.h"
#include "train/safetensors.h"

// The inception crop draws what TensorFlow's sampler draws (tests/reference/golden_crop.py).
using data::CropBox;
using train::SafetensorsFile;

namespace {

constexpr int kDraws = 100000;

template <class T>
std::vector<T> values_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsFile::Entry* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, name);
  std::vector<T> values(static_cast<size_t>(entry->shape.numel()));
  file.read(name, engine::test::view(values, entry->shape));
  return values;
}

// The largest distance of two distribution functions, both of kDraws draws given as counts.
double distance(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  REQUIRE(a.size() == b.size());
  int64_t sum_a = 0, sum_b = 0, worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum_a += a[i];
    sum_b += b[i];
    worst = std::max(worst, std::abs(sum_a - sum_b));
  }
  CHECK(sum_a == kDraws);
  CHECK(sum_b == kDraws);
  return static_cast<double>(worst) / kDraws;
}

struct Counts {
  std::vector<int32_t> height, width, top, left, area;
  int64_t whole = 0;
};

Counts count(const std::vector<double>& c) {
  const auto height = static_cast<int64_t>(c[0]), width = static_cast<int64_t>(c[1]);
  const data::InceptionCrop range{c[2], c[3], c[4], c[5]};
  const auto zeros = [](int64_t n) { return std::vector<int32_t>(static_cast<size_t>(n)); };
  Counts n{zeros(height + 1), zeros(width + 1), zeros(height), zeros(width), zeros(101), 0};
  for (int i = 0; i < kDraws; ++i) {
    engine::RngStream rng(engine::RngKey(3, engine::Purpose::kTest).with(static_cast<uint64_t>(i)));
    const CropBox box = data::draw_inception_crop(height, width, range, rng);
    REQUIRE(box.inside(height, width));
    CHECK_FALSE(box.flip);
    ++n.height[static_cast<size_t>(box.h)];
    ++n.width[static_cast<size_t>(box.w)];
    ++n.top[static_cast<size_t>(box.y)];
    ++n.left[static_cast<size_t>(box.x)];
    ++n.area[static_cast<size_t>(100 * box.h * box.w / (height * width))];
    n.whole += box.h == height && box.w == width;
  }
  return n;
}

}  // namespace

TEST_CASE("golden crop: sizes, areas and places are distributed as TensorFlow's" *
          doctest::skip(engine::test::kSanitized)) {
  const SafetensorsFile file(ROBUSTMOE_SOURCE_DIR "/tests/golden/crop.safetensors");
  // Two samples of one distribution are farther apart once in 400,000 times (Kolmogorov, Smirnov).
  const double limit = 2.7 * std::sqrt(2.0 / kDraws);
  int cases = 0, fallbacks = 0;
  for (; file.find("case." + std::to_string(cases)) != nullptr; ++cases) {
    CAPTURE(cases);
    const std::string k = "." + std::to_string(cases);
    const Counts ours = count(values_of<double>(file, "case" + k));
    CHECK(distance(ours.height, values_of<int32_t>(file, "height" + k)) < limit);
    CHECK(distance(ours.width, values_of<int32_t>(file, "width" + k)) < limit);
    CHECK(distance(ours.top, values_of<int32_t>(file, "top" + k)) < limit);
    CHECK(distance(ours.left, values_of<int32_t>(file, "left" + k)) < limit);
    CHECK(distance(ours.area, values_of<int32_t>(file, "area" + k)) < limit);
    const int64_t whole = values_of<int32_t>(file, "whole" + k)[0];
    CHECK(static_cast<double>(std::abs(ours.whole - whole)) <=
          5 * std::sqrt(static_cast<double>(std::min<int64_t>(whole, kDraws - whole)) * 2));
    fallbacks += whole == kDraws;
  }
  CHECK(cases == 8);
  CHECK(fallbacks == 2);  // no box fits: always the whole picture
}
