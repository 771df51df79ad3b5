#include "train/attacks/pixel_range.h"

#include <algorithm>

#include "engine/core/parallel.h"
#include "train/model.h"

namespace train {
namespace {

// to = f(from, unit of the channel, black of the channel)
template <class F>
void for_pixels(const Config& config, std::span<const float> from, std::span<float> to, F&& f) {
  const int64_t plane = config.model.image_size * config.model.image_size;
  const auto planes = static_cast<int64_t>(from.size()) / plane;
  engine::parallel_for(planes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t channel = p % config.model.channels;
      const auto unit = static_cast<float>(pixel_unit(config, channel));
      const auto black = static_cast<float>(black_value(config, channel));
      for (int64_t i = p * plane; i < (p + 1) * plane; ++i) {
        to[static_cast<size_t>(i)] = f(from[static_cast<size_t>(i)], unit, black);
      }
    }
  });
}

}  // namespace

void normalise_pixels(const Config& config, std::span<const float> from, std::span<float> to) {
  for_pixels(config, from, to, [](float x, float unit, float black) { return black + unit * x; });
}

void unnormalise_pixels(const Config& config, std::span<const float> from, std::span<float> to) {
  for_pixels(config, from, to, [](float x, float unit, float black) {
    return std::clamp((x - black) / unit, 0.0f, 1.0f);
  });
}

}  // namespace train
