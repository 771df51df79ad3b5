#include "data/transform/flip.h"

#include <algorithm>

namespace data {

bool draw_flip(engine::RngStream& rng) { return rng.uniform() >= 0.5; }

void flip(ImageU8& image) {
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(image.at(y, left), image.at(y, left) + image.channels, image.at(y, right));
    }
  }
}

}  // namespace data
