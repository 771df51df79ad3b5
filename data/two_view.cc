#include "data/two_view.h"

#include <cmath>

#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

// One axis of a view: `size` pixels of the picture from `start` on, perhaps mirrored.
struct Axis {
  int64_t size, start;
  bool mirrored;
};

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

void check_grid(int64_t image_size, int64_t patch) {
  check(patch > 0 && image_size > 0 && image_size % patch == 0, ErrorKind::kShape,
        "patch_match: image size ", image_size, ", expected a multiple of the patch size ", patch);
}

// Row (or column) of view 2's grid that holds the centre of row i of view 1's.
//
// The centre is at (2i+1)P/2 pixels of view 1. Times 2S, its place in the picture is the
// integer `place`; in view 2 it is at (place - 2S*start) / (2*size) pixels, and patch borders
// lie P apart. With c = q/P - 1/2, floor(c + 1/2) is floor(q/P).
int64_t partner(int64_t i, const Axis& from, const Axis& to, int64_t image_size, int64_t patch) {
  const int64_t centre2 = (2 * i + 1) * patch;
  const int64_t along = from.mirrored ? 2 * image_size - centre2 : centre2;
  const int64_t place = along * from.size + 2 * image_size * from.start;
  const int64_t offset = place - 2 * image_size * to.start;
  const int64_t q = to.mirrored ? 2 * image_size * to.size - offset : offset;
  return floor_divide(q, 2 * to.size * patch);
}

}  // namespace

Affine view_map(const CropBox& box, int64_t image_size) {
  const auto size = static_cast<double>(image_size), h = static_cast<double>(box.h),
             w = static_cast<double>(box.w), y = static_cast<double>(box.y),
             x = static_cast<double>(box.x);
  const double down = size / h, right = size / w;
  if (box.flip) return {{down, 0, -down * y, 0, -right, right * (w + x)}};
  return {{down, 0, -down * y, 0, right, -right * x}};
}

void patch_match(const CropBox& view1, const CropBox& view2, int64_t image_size, int64_t patch,
                 int32_t* match) {
  check_grid(image_size, patch);
  check(view1.h > 0 && view1.w > 0 && view2.h > 0 && view2.w > 0, ErrorKind::kShape,
        "patch_match: empty crop ", view1.h, "x", view1.w, " or ", view2.h, "x", view2.w);
  const int64_t grid = image_size / patch;
  const Axis rows1{view1.h, view1.y, false}, rows2{view2.h, view2.y, false};
  const Axis columns1{view1.w, view1.x, view1.flip}, columns2{view2.w, view2.x, view2.flip};
  for (int64_t j = 0; j < grid; ++j) {  // row 0 of `match` holds the columns for a while
    const int64_t column = partner(j, columns1, columns2, image_size, patch);
    match[j] = column >= 0 && column < grid ? static_cast<int32_t>(column) : -1;
  }
  for (int64_t i = grid - 1; i >= 0; --i) {
    const int64_t row = partner(i, rows1, rows2, image_size, patch);
    const bool valid = row >= 0 && row < grid;
    for (int64_t j = 0; j < grid; ++j) {
      match[i * grid + j] =
          valid && match[j] >= 0 ? static_cast<int32_t>(row * grid + match[j]) : -1;
    }
  }
}

void patch_match(const Affine& view1, const Affine& view2, int64_t image_size, int64_t patch,
                 int32_t* match) {
  check_grid(image_size, patch);
  const Affine across = view2.after(view1.inverse());
  const int64_t grid = image_size / patch;
  const auto side = static_cast<double>(patch), last = static_cast<double>(grid);
  for (int64_t i = 0; i < grid; ++i) {
    for (int64_t j = 0; j < grid; ++j) {
      const double row = (static_cast<double>(i) + 0.5) * side,
                   column = (static_cast<double>(j) + 0.5) * side;
      // floor(q / P - 1/2 + 1/2)
      const double to_row =
          std::floor((across.m[0] * row + across.m[1] * column + across.m[2]) / side);
      const double to_column =
          std::floor((across.m[3] * row + across.m[4] * column + across.m[5]) / side);
      const bool valid = to_row >= 0 && to_row < last && to_column >= 0 && to_column < last;
      match[i * grid + j] = valid ? static_cast<int32_t>(static_cast<int64_t>(to_row) * grid +
                                                         static_cast<int64_t>(to_column))
                                  : -1;
    }
  }
}

}  // namespace data
