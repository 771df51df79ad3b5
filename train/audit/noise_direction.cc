#include "train/audit/noise_direction.h"

#include "engine/core/parallel.h"
#include "engine/core/rng.h"
#include "train/model.h"

namespace train {

void draw_directions(const Config& config, uint64_t seed, const data::Batch& batch,
                     std::vector<float>& out) {
  const int64_t plane = config.model.image_size * config.model.image_size;
  const int64_t image = config.model.channels * plane;
  const engine::RngKey key(seed, engine::Purpose::kNoiseSweep);
  out.resize(batch.pixels.size());
  engine::parallel_for(batch.views, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const engine::RngKey own = key.with(static_cast<uint64_t>(batch.samples[b]));
      for (int64_t i = 0; i < image; ++i) {
        out[b * image + i] = static_cast<float>(pixel_unit(config, i / plane)) *
                             static_cast<float>(own.normal(static_cast<uint64_t>(i)));
      }
    }
  });
}

void add_noise(const std::vector<float>& pixels, double sigma, const std::vector<float>& directions,
               std::vector<float>& out) {
  const auto strength = static_cast<float>(sigma);
  out.resize(pixels.size());
  engine::parallel_for(static_cast<int64_t>(pixels.size()), int64_t{1} << 14,
                       [&](int64_t begin, int64_t end) {
                         for (int64_t i = begin; i < end; ++i) {
                           out[i] = pixels[i] + strength * directions[i];
                         }
                       });
}

}  // namespace train
