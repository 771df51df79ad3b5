#include "train/attacks/ball.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace train {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The largest float that is not above `x`, the smallest that is not below.
float floor_float(double x) {
  const auto near = static_cast<float>(x);
  return double{near} > x ? std::nextafter(near, -kInfinity) : near;
}
float ceil_float(double x) {
  const auto near = static_cast<float>(x);
  return double{near} < x ? std::nextafter(near, kInfinity) : near;
}

// A distance that is not beyond twice the pixel range, which nobody could tell from it: so that no
// float overflows.
double within_pixels(double distance, size_t pixels) {
  return std::min(distance, 2 * std::sqrt(static_cast<double>(pixels)));
}

double length(std::span<const float> clean, std::span<const float> x) {
  double square = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = double{x[i]} - double{clean[i]};
    square += d * d;
  }
  return std::sqrt(square);
}

}  // namespace

void Ball::project(std::span<const float> clean, std::span<float> x) const {
  if (norm == Norm::kLinf) {
    for (size_t i = 0; i < x.size(); ++i) {
      const float low = std::max(0.0f, ceil_float(double{clean[i]} - eps));
      const float high = std::min(1.0f, floor_float(double{clean[i]} + eps));
      x[i] = std::clamp(x[i], low, high);
    }
    return;
  }
  const double far = length(clean, x);
  const double share = far > eps ? eps / far : 1;
  for (size_t i = 0; i < x.size(); ++i) {
    const double moved = double{clean[i]} + share * (double{x[i]} - double{clean[i]});
    // Rounded towards the clean pixel, so that the norm cannot grow again.
    const float inside = moved > double{clean[i]} ? floor_float(moved) : ceil_float(moved);
    x[i] = std::clamp(inside, 0.0f, 1.0f);
  }
}

void Ball::draw(std::span<const float> clean, const engine::RngKey& key, std::span<float> x) const {
  if (norm == Norm::kLinf) {
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(double{clean[i]} + eps * (2 * key.uniform(i) - 1));
    }
  } else {
    double square = 0;
    for (size_t i = 0; i < x.size(); ++i) square += std::pow(key.normal(i), 2);
    const double radius = within_pixels(eps, x.size()) *
                          std::pow(key.uniform(x.size()), 1 / static_cast<double>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(double{clean[i]} + radius / std::sqrt(square) * key.normal(i));
    }
  }
  project(clean, x);
}

void Ball::ascend(std::span<const float> clean, std::span<const float> gradient, double length,
                  std::span<float> x) const {
  if (norm == Norm::kLinf) {
    for (size_t i = 0; i < x.size(); ++i) {
      const double sign = (gradient[i] > 0 ? 1 : 0) - (gradient[i] < 0 ? 1 : 0);
      x[i] = static_cast<float>(double{x[i]} + length * sign);
    }
  } else {
    double square = 0;
    for (const float g : gradient) square += double{g} * double{g};
    const double scale = square > 0 ? within_pixels(length, x.size()) / std::sqrt(square) : 0;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(double{x[i]} + scale * double{gradient[i]});
    }
  }
  project(clean, x);
}

double Ball::reach(size_t pixels) const { return within_pixels(eps, pixels); }

double Ball::distance(std::span<const float> clean, std::span<const float> x) const {
  if (norm == Norm::kL2) return length(clean, x);
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::abs(double{x[i]} - double{clean[i]}));
  }
  return largest;
}

bool Ball::holds(std::span<const float> clean, std::span<const float> x) const {
  return distance(clean, x) <= eps * (1 + 1e-9) &&
         std::ranges::all_of(x, [](float v) { return v >= 0 && v <= 1; });
}

}  // namespace train
