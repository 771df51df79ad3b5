#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/core/simd.h"
#include "engine/gemm/blocked_product.h"
#include "engine/gemm/window_product.h"

// The windows of a picture as the left side of a product: strips of a few rows are laid out where
// the register tile reads them. Include it in *_cpu.cc files only.
namespace engine::kernels {

// Rows of the windows from `first` on.
template <class T>
struct WindowRows {
  const Windows& windows;
  const T* x;
  int64_t first = 0;
};

// Walks over output pixels in order, without a division each.
class PixelWalk {
 public:
  PixelWalk(const Windows& w, int64_t row)
      : w_(w), x_(row % w.out_w), y_(row / w.out_w % w.out_h), b_(row / w.out_w / w.out_h) {}
  // Element 0 of the input pixel that the tap reads, counted from the picture's start; -1: outside.
  int64_t offset(const Tap& tap) const {
    const int64_t y = y_ * w_.stride + tap.y, x = x_ * w_.stride + tap.x;
    const bool inside = static_cast<uint64_t>(y) < static_cast<uint64_t>(w_.in_h) &&
                        static_cast<uint64_t>(x) < static_cast<uint64_t>(w_.in_w);
    return inside ? ((b_ * w_.in_h + y) * w_.in_w + x) * w_.channels : -1;
  }
  // The output pixel's number in a picture of `place`.
  int64_t placed(const Placement& place) const {
    return (b_ * place.h + y_ * place.step + place.y0) * place.w + x_ * place.step + place.x0;
  }
  void next() {
    if (++x_ < w_.out_w) return;
    x_ = 0;
    if (++y_ < w_.out_h) return;
    y_ = 0;
    ++b_;
  }

 private:
  const Windows& w_;
  int64_t x_, y_, b_;
};

// to = `count` elements of x from `offset` on, or zeros.
template <class T>
void copy_or_zero(const T* x, int64_t offset, int64_t count, T* to) {
  if (offset >= 0) {
    simd::map<T>(count, x + offset, to, [](const simd::Packet<T>& v) { return v; });
  } else {
    simd::for_lanes<T>(count,
                       [&](int64_t i, int64_t n) { simd::store_n(to + i, simd::set(T(0)), n); });
  }
}

// multiply_packed()'s strips of windows: rows [i, i + rows), `depth` columns from p on.
template <class T, class Tile>
Operand<T> strip_of(const WindowRows<T>& a, int64_t i, int64_t rows, int64_t p, int64_t depth,
                    T* strip) {
  const Windows& w = a.windows;
  PixelWalk pixel(w, a.first + i);
  for (int64_t r = 0; r < rows; ++r, pixel.next()) {
    int64_t tap = p / w.channels, channel = p % w.channels;
    for (int64_t q = 0; q < depth; ++tap, channel = 0) {
      const int64_t count = std::min(w.channels - channel, depth - q);
      const int64_t offset = pixel.offset(w.taps[static_cast<size_t>(tap)]);
      copy_or_zero(a.x, offset < 0 ? offset : offset + channel, count, strip + r * depth + q);
      q += count;
    }
  }
  if constexpr (Tile::kRounds) round_to_bf16(strip, rows * depth);
  return {strip, depth, 1};
}
template <class T, class Tile>
void prefetch_strip(const WindowRows<T>&, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) {}

// Where each of `depth` output pixels from row p on finds what one tap reads.
template <class T>
void tap_offsets(const WindowRows<T>& a, int64_t tap, int64_t p, int64_t depth, int64_t* offset) {
  PixelWalk pixel(a.windows, a.first + p);
  for (int64_t q = 0; q < depth; ++q, pixel.next()) {
    offset[q] = pixel.offset(a.windows.taps[static_cast<size_t>(tap)]);
  }
}

// Columns [i, i + count) of the windows, one tap's, of `depth` rows as `offset` has them: to
// strips of kRows columns, the first of them column `column` of the first strip.
template <class T, int kRows>
void pack_columns(const T* x, const int64_t* offset, int64_t channel, int64_t count, int64_t depth,
                  int64_t column, T* strips) {
  if (column % kRows == 0 && count % kRows == 0) {
    for (int64_t c = 0; c < count; c += kRows) {
      T* to = strips + (column + c) * depth;
      for (int64_t q = 0; q < depth; ++q, to += kRows) {
        if (offset[q] < 0) {
          std::fill_n(to, kRows, T(0));
        } else {
          std::copy_n(x + offset[q] + channel + c, kRows, to);
        }
      }
    }
    return;
  }
  for (int64_t c = 0; c < count; ++c) {
    const int64_t at = column + c;
    T* to = strips + at / kRows * kRows * depth + at % kRows;
    for (int64_t q = 0; q < depth; ++q) {
      to[q * kRows] = offset[q] < 0 ? T(0) : x[offset[q] + channel + c];
    }
  }
}

}  // namespace engine::kernels
