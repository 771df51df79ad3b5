#include "tools/commands/made_up_picture.h"

#include <algorithm>
#include <cmath>

namespace tools {

data::ImageU8 made_up_picture(int64_t width, int64_t height, const engine::RngKey& key) {
  constexpr int kWaves = 24;
  engine::RngStream rng(key);
  struct Wave {
    double down, right, phase, swing[3];
  } waves[kWaves];
  for (int i = 0; i < kWaves; ++i) {
    const double frequency = std::pow(2.0, -7 + 6.0 * i / kWaves);  // cycles a pixel
    const double turn = rng.uniform(0, 2 * M_PI);
    waves[i] = {frequency * std::cos(turn), frequency * std::sin(turn), rng.uniform(), {}};
    for (double& swing : waves[i].swing) swing = rng.uniform(-1, 1) * 60 * std::pow(2.0, -i / 8.0);
  }
  data::ImageU8 image;
  image.reshape(height, width, 3);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      double sum[3] = {128, 128, 128};
      for (const Wave& wave : waves) {
        const double at = wave.down * static_cast<double>(y) + wave.right * static_cast<double>(x);
        const double value = std::sin(2 * M_PI * (at + wave.phase));
        for (int c = 0; c < 3; ++c) sum[c] += wave.swing[c] * value;
      }
      const double grain = 7 * rng.uniform(-1, 1);
      for (int c = 0; c < 3; ++c) {
        image.at(y, x)[c] = static_cast<uint8_t>(std::min(255.0, std::max(0.0, sum[c] + grain)));
      }
    }
  }
  return image;
}

}  // namespace tools
