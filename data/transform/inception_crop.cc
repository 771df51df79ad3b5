#include "data/transform/inception_crop.h"

#include <algorithm>
#include <cmath>

namespace data {
namespace {

constexpr int kAttempts = 100;

// To the nearest integer, halves to even.
int64_t round_even(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

// low + (high - low) * u in two roundings. The product goes through memory, so that no compiler
// fuses it with the sum.
double weighted(double low, double high, double u) {
  const volatile double step = (high - low) * u;
  return low + step;
}

int64_t draw_offset(int64_t room, engine::RngStream& rng) {
  return room > 0 ? rng.integer(0, room) : 0;
}

bool attempt(int64_t height, int64_t width, const InceptionCrop& range, engine::RngStream& rng,
             CropBox& box) {
  const auto pixels = static_cast<double>(height * width);
  const double area_min = range.area_min * pixels, area_max = range.area_max * pixels;
  const double u = rng.uniform();
  const double aspect = weighted(range.aspect_min, range.aspect_max, u);

  const auto width_of = [aspect](int64_t h) { return round_even(static_cast<double>(h) * aspect); };
  // One above the largest height whose width still fits, then down to it.
  const int64_t h_fits = static_cast<int64_t>((static_cast<double>(width) + 0.5) / aspect) + 1;
  int64_t h_max = std::min({round_even(std::sqrt(area_max / aspect)), height, h_fits});
  while (h_max > 0 && width_of(h_max) > width) --h_max;
  const int64_t h_min = std::min(round_even(std::sqrt(area_min / aspect)), h_max);

  int64_t h = rng.integer(h_min, h_max + 1);
  const auto area = [&] { return static_cast<double>(h * width_of(h)); };
  if (area() < area_min) ++h;
  if (area() > area_max) --h;
  const int64_t w = width_of(h);
  if (area() < area_min || area() > area_max) return false;
  if (h > height || w > width || h <= 0 || w <= 0) return false;
  box = {h, w, draw_offset(height - h, rng), 0, false};
  box.x = draw_offset(width - w, rng);
  return true;
}

}  // namespace

CropBox draw_inception_crop(int64_t height, int64_t width, const InceptionCrop& range,
                            engine::RngStream& rng) {
  CropBox box;
  for (int i = 0; i < kAttempts; ++i) {
    if (attempt(height, width, range, rng, box)) return box;
  }
  return {height, width, 0, 0, false};
}

}  // namespace data
