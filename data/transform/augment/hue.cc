#include <algorithm>
#include <cmath>

#include "data/transform/augment/color_jitter.h"
#include "engine/core/error.h"

namespace data {
namespace {

uint8_t clipped(int x) { return static_cast<uint8_t>(std::clamp(x, 0, 255)); }

// Hue, saturation and value, as Pillow has them in bytes; which numbers are f32 and which f64
// decides about bits.
void to_hsv(const uint8_t* rgb, uint8_t* hsv) {
  const int r = rgb[0], g = rgb[1], b = rgb[2];
  const int most = std::max({r, g, b}), least = std::min({r, g, b});
  hsv[0] = hsv[1] = 0;
  hsv[2] = static_cast<uint8_t>(most);
  if (most == least) return;
  const auto range = static_cast<float>(most - least);
  const float saturation = range / static_cast<float>(most);
  const float red = static_cast<float>(most - r) / range,
              green = static_cast<float>(most - g) / range,
              blue = static_cast<float>(most - b) / range;
  float hue = 0;
  if (r == most) {
    hue = blue - green;
  } else if (g == most) {
    hue = static_cast<float>(2.0 + static_cast<double>(red) - static_cast<double>(blue));
  } else {
    hue = static_cast<float>(4.0 + static_cast<double>(green) - static_cast<double>(red));
  }
  hue = static_cast<float>(std::fmod(static_cast<double>(hue) / 6.0 + 1.0, 1.0));
  hsv[0] = clipped(static_cast<int>(static_cast<double>(hue) * 255.0));
  hsv[1] = clipped(static_cast<int>(static_cast<double>(saturation) * 255.0));
}

void to_rgb(const uint8_t* hsv, uint8_t* rgb) {
  const uint8_t v = hsv[2];
  if (hsv[1] == 0) {
    rgb[0] = rgb[1] = rgb[2] = v;
    return;
  }
  const double sixths = static_cast<double>(static_cast<float>(hsv[0])) * 6.0 / 255.0;
  const int sector = static_cast<int>(std::floor(sixths));
  const auto f = static_cast<float>(sixths - static_cast<double>(static_cast<float>(sector)));
  const auto s = static_cast<float>(static_cast<double>(static_cast<float>(hsv[1])) / 255.0);
  const auto of = [v](double share) {
    return clipped(static_cast<int>(std::round(static_cast<double>(v) * share)));
  };
  const auto fd = static_cast<double>(f), sd = static_cast<double>(s);
  const uint8_t p = of(1.0 - sd), q = of(1.0 - sd * fd), t = of(1.0 - sd * (1.0 - fd));
  const uint8_t table[6][3] = {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}};
  std::copy_n(table[sector % 6], 3, rgb);
}

}  // namespace

void adjust_hue(ImageU8& image, double turn) {
  engine::check(turn >= -0.5 && turn <= 0.5, engine::ErrorKind::kValue, "hue: a turn of ", turn,
                ", expected -0.5 to 0.5");
  if (image.channels != 3) return;
  const auto shift = static_cast<uint8_t>(static_cast<int>(turn * 255));  // wraps around
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t hsv[3];
    to_hsv(image.pixels.data() + i, hsv);
    hsv[0] = static_cast<uint8_t>(hsv[0] + shift);
    to_rgb(hsv, image.pixels.data() + i);
  }
}

}  // namespace data
