#include "tools/commands/report_tty.h"

#include <algorithm>
#include <array>

#include "train/predict/route_picture.h"

namespace tools {
namespace {

std::array<int64_t, 3> mean_colour(const data::ImageU8& image, int64_t patch, int64_t row,
                                   int64_t column) {
  std::array<int64_t, 3> sum{};
  for (int64_t i = 0; i < patch * patch; ++i) {
    const uint8_t* pixel = image.at(row * patch + i / patch, column * patch + i % patch);
    for (size_t c = 0; c < 3; ++c) sum[c] += pixel[c];
  }
  for (int64_t& c : sum) c /= patch * patch;
  return sum;
}

std::string coloured(const std::string& text, const std::array<int64_t, 3>& background,
                     const train::Colour& mark) {
  const auto [r, g, b] = background;
  const bool dark = 299 * r + 587 * g + 114 * b < 128000;
  const auto colour = [](int64_t x, int64_t y, int64_t z) {
    return std::to_string(x) + ";" + std::to_string(y) + ";" + std::to_string(z) + "m";
  };
  return "\x1b[48;2;" + colour(mark.r, mark.g, mark.b) + " \x1b[48;2;" + colour(r, g, b) +
         (dark ? "\x1b[97m" : "\x1b[30m") + text + "\x1b[0m";
}

}  // namespace

std::string patch_grid(const train::Prediction& prediction, const data::ImageU8& image,
                       int64_t patch, bool colour) {
  const int64_t grid = image.width / patch;
  std::string text;
  for (const train::LayerRoutes& layer : prediction.layers) {
    text += "block " + std::to_string(layer.layer) + ", " + std::to_string(layer.experts) +
            " experts\n";
    const size_t width = std::to_string(layer.experts - 1).size();
    for (int64_t p = 0; p < grid * grid; ++p) {
      const train::TokenRoute& route = layer.patches[static_cast<size_t>(p)];
      const std::string number = route.experts.empty() ? "-" : std::to_string(route.experts[0]);
      const std::string cell = std::string(width - std::min(width, number.size()), ' ') + number;
      if (colour) {
        const train::Colour mark = route.experts.empty()
                                       ? train::Colour{0, 0, 0}
                                       : train::expert_colour(route.experts[0], layer.experts);
        text += coloured(cell, mean_colour(image, patch, p / grid, p % grid), mark);
      } else {
        text += (p % grid == 0 ? "" : " ") + cell;
      }
      if (p % grid == grid - 1) text += "\n";
    }
  }
  return text;
}

}  // namespace tools
