#include "train/predict/route_picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

namespace train {
namespace {

using data::ImageU8;

constexpr int64_t kCell = 40, kGap = 8;  // pixels of a drawn patch, and between panels

// Digits of 3 x 5, a bit a pixel, rows from the top.
constexpr std::array<uint16_t, 10> kDigits = {
    0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111, 0b101101111001001,
    0b111100111001111, 0b111100111101111, 0b111001010010010, 0b111101111101111, 0b111101111001111};

void put(ImageU8& image, int64_t y, int64_t x, Colour c) {
  uint8_t* pixel = image.at(y, x);
  pixel[0] = c.r, pixel[1] = c.g, pixel[2] = c.b;
}

void blend(ImageU8& image, int64_t y, int64_t x, Colour c, double share) {
  uint8_t* pixel = image.at(y, x);
  const uint8_t colour[3] = {c.r, c.g, c.b};
  for (int i = 0; i < 3; ++i) {
    pixel[i] = static_cast<uint8_t>(std::lround((1 - share) * pixel[i] + share * colour[i]));
  }
}

// A number in black on white, twice the size of the digits.
void draw_number(ImageU8& image, int64_t top, int64_t left, int64_t number) {
  const std::string text = std::to_string(number);
  const int64_t width = 8 * static_cast<int64_t>(text.size());
  for (int64_t y = 0; y < 14; ++y) {
    for (int64_t x = 0; x < width + 2; ++x) put(image, top + y, left + x, {255, 255, 255});
  }
  for (size_t d = 0; d < text.size(); ++d) {
    for (int64_t i = 0; i < 60; ++i) {  // 10 rows of 6 pixels
      const int64_t y = i / 6, x = i % 6, bit = 14 - (y / 2 * 3 + x / 2);
      if ((kDigits[static_cast<size_t>(text[d] - '0')] >> bit & 1) == 0) continue;
      put(image, top + 2 + y, left + 2 + static_cast<int64_t>(d) * 8 + x, {0, 0, 0});
    }
  }
}

void draw_frame(ImageU8& image, int64_t top, int64_t left) {
  for (int64_t i = 0; i < kCell; ++i) {
    for (int64_t d = 0; d < 3; ++d) {
      for (const auto& [y, x] : {std::pair{d, i}, {kCell - 1 - d, i}, {i, d}, {i, kCell - 1 - d}}) {
        put(image, top + y, left + x, {255, 255, 255});
      }
    }
  }
}

// One patch: its pixels enlarged, and the tints of its experts.
void draw_patch(ImageU8& out, int64_t top, int64_t left, const ImageU8& image, int64_t patch,
                int64_t row, int64_t column, const TokenRoute& route, int64_t experts) {
  for (int64_t y = 0; y < kCell; ++y) {
    for (int64_t x = 0; x < kCell; ++x) {
      const uint8_t* from =
          image.at(row * patch + y * patch / kCell, column * patch + x * patch / kCell);
      put(out, top + y, left + x, {from[0], from[1], from[2]});
      const size_t half = x + y < kCell ? 0 : 1;
      if (route.experts.size() <= half) continue;
      blend(out, top + y, left + x, expert_colour(route.experts[half], experts),
            0.15 + 0.5 * static_cast<double>(route.weights[half]));
    }
  }
  if (!route.experts.empty()) draw_number(out, top + 2, left + 2, route.experts[0]);
}

void draw_panel(ImageU8& out, int64_t top, int64_t left, const ImageU8& image,
                const LayerRoutes& layer, int64_t patch, const LayerRoutes* before) {
  const int64_t side = image.width / patch;
  for (int64_t p = 0; p < side * side; ++p) {
    const int64_t row = p / side, column = p % side;
    const TokenRoute& route = layer.patches[static_cast<size_t>(p)];
    const int64_t y = top + row * kCell, x = left + column * kCell;
    draw_patch(out, y, x, image, patch, row, column, route, layer.experts);
    if (before == nullptr) continue;
    const std::vector<int32_t>& was = before->patches[static_cast<size_t>(p)].experts;
    const bool same =
        was.empty() == route.experts.empty() && (was.empty() || was[0] == route.experts[0]);
    if (!same) draw_frame(out, y, x);
  }
}

}  // namespace

Colour expert_colour(int64_t expert, int64_t experts) {
  const double hue = 6.0 * static_cast<double>(expert) / static_cast<double>(experts);
  const auto channel = [hue](double shift) {
    const double t = std::fmod(hue + shift, 6.0);
    const double v = std::clamp(std::abs(t - 3) - 1, 0.0, 1.0);
    return static_cast<uint8_t>(std::lround(255 * v));
  };
  return {channel(0), channel(4), channel(2)};
}

ImageU8 draw_routes(const ImageU8& image, const Prediction& prediction, int64_t patch,
                    const NoisyView* noisy) {
  const int64_t panel = image.width / patch * kCell;
  const auto layers = static_cast<int64_t>(prediction.layers.size());
  const int64_t columns = noisy == nullptr ? 1 : 2;
  ImageU8 out;
  out.reshape(layers * panel + (layers + 1) * kGap, columns * panel + (columns + 1) * kGap, 3);
  std::ranges::fill(out.pixels, uint8_t{40});
  for (int64_t l = 0; l < layers; ++l) {
    const int64_t top = kGap + l * (panel + kGap);
    const LayerRoutes& clean = prediction.layers[static_cast<size_t>(l)];
    draw_panel(out, top, kGap, image, clean, patch, nullptr);
    if (noisy == nullptr) continue;
    draw_panel(out, top, panel + 2 * kGap, *noisy->image,
               noisy->prediction->layers[static_cast<size_t>(l)], patch, &clean);
  }
  return out;
}

}  // namespace train
