#pragma once

#include <cstdint>

namespace data {

// The part of a picture that a view shows: h x w pixels whose top left corner is (y, x), in
// pixels of the picture. The view is this box resized to S x S and, where `flip` says so,
// mirrored left to right. A box may reach outside the picture (zero padding).
struct CropBox {
  int64_t h = 0, w = 0, y = 0, x = 0;
  bool flip = false;

  int64_t area() const { return h * w; }
  bool inside(int64_t height, int64_t width) const {
    return y >= 0 && x >= 0 && y + h <= height && x + w <= width;
  }
  bool operator==(const CropBox&) const = default;
};

}  // namespace data
