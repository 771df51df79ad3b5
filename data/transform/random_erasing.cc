#include "data/transform/random_erasing.h"

#include <algorithm>
#include <cmath>

namespace data {

ErasedBox draw_erased(int64_t size, double probability, engine::RngStream& rng) {
  if (rng.uniform() >= probability) return {};
  const auto pixels = static_cast<double>(size * size);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = pixels * rng.uniform(0.02, 0.33);
    const double aspect = std::exp(rng.uniform(std::log(0.3), std::log(3.3)));
    const auto height = static_cast<int64_t>(std::nearbyint(std::sqrt(area * aspect))),
               width = static_cast<int64_t>(std::nearbyint(std::sqrt(area / aspect)));
    if (height >= size || width >= size) continue;
    const int64_t top = rng.integer(0, size - height + 1), left = rng.integer(0, size - width + 1);
    return {static_cast<int32_t>(top), static_cast<int32_t>(left), static_cast<int32_t>(height),
            static_cast<int32_t>(width)};
  }
  return {};
}

bool erase_randomly(float* view, int64_t channels, int64_t size, double probability,
                    engine::RngStream& rng) {
  const ErasedBox box = draw_erased(size, probability, rng);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t y = box.top; y < box.top + box.height; ++y) {
      std::fill_n(view + (c * size + y) * size + box.left, box.width, 0.0f);
    }
  }
  return box.height > 0 && box.width > 0;
}

}  // namespace data
