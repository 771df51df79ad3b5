#include "train/init/zoom.h"

#include <algorithm>
#include <cmath>

namespace train {
namespace {

using engine::ErrorKind;

struct Grid {
  int64_t side = 0, class_slots = 0;  // class_slots: 0 or 1
};

// T = side^2 or side^2 + 1; no T above 1 is both.
Grid grid_of(int64_t positions, const std::string& name) {
  for (const int64_t slots : {0, 1}) {
    const auto side = std::llround(std::sqrt(static_cast<double>(positions - slots)));
    if (side > 0 && side * side == positions - slots) return {side, slots};
  }
  engine::fail(ErrorKind::kFormat, name, ": ", positions,
               " positions are no square grid, with or without a class slot");
}

}  // namespace

SourceTensor zoom_positions(const SourceTensor& source, const SourceTensor& target,
                            const std::string& name) {
  engine::check(
      source.shape.rank() == 2 && target.shape.rank() == 2 && source.shape[1] == target.shape[1],
      ErrorKind::kFormat, name, ": cannot be zoomed from ", source.shape, " to ", target.shape);
  const int64_t width = source.shape[1];
  const Grid from = grid_of(source.shape[0], name), to = grid_of(target.shape[0], name);
  SourceTensor out = target;
  if (from.class_slots == 1 && to.class_slots == 1) {
    std::copy_n(source.values.begin(), width, out.values.begin());
  }
  const float* in = source.values.data() + from.class_slots * width;
  float* result = out.values.data() + to.class_slots * width;
  const double step =
      to.side > 1 ? static_cast<double>(from.side - 1) / static_cast<double>(to.side - 1) : 0;
  const auto place = [&](int64_t i) {
    const double at = static_cast<double>(i) * step;
    const int64_t low = std::min(static_cast<int64_t>(at), from.side - 1);
    return std::tuple{low, std::min(low + 1, from.side - 1), at - static_cast<double>(low)};
  };
  for (int64_t y = 0; y < to.side; ++y) {
    const auto [y0, y1, fy] = place(y);
    for (int64_t x = 0; x < to.side; ++x) {
      const auto [x0, x1, fx] = place(x);
      for (int64_t c = 0; c < width; ++c) {
        const auto pixel = [&](int64_t row, int64_t column) {
          return static_cast<double>(in[(row * from.side + column) * width + c]);
        };
        const double top = (1 - fx) * pixel(y0, x0) + fx * pixel(y0, x1);
        const double bottom = (1 - fx) * pixel(y1, x0) + fx * pixel(y1, x1);
        result[(y * to.side + x) * width + c] = static_cast<float>((1 - fy) * top + fy * bottom);
      }
    }
  }
  return out;
}

}  // namespace train
