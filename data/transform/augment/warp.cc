#include "data/transform/augment/warp.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/error.h"

namespace data {
namespace {

constexpr uint8_t kGreyFill = 128;
constexpr int64_t kChunk = 256;  // columns done at once; their places stay in registers and cache

// Without branches, so that loops over them become vector code. Whole numbers are exact in f32, and
// so is x - whole(x): nothing here rounds but what `reflected` and TensorFlow's own formula round.
inline float whole(float x) { return static_cast<float>(static_cast<int32_t>(x)); }

inline float rounded(float x) {  // halves away from zero
  const float down = whole(x), step = x < 0 ? -1.0f : 1.0f;
  return std::abs(x - down) >= 0.5f ? down + step : down;
}

inline float mirrored(float c, float length, float period) {
  const float turns = whole(std::abs(c) / period) * period;
  const float low = c + turns, high = c - turns;
  const float below = low < -length ? low + period : -low - 1;
  const float above = high >= length ? period - high - 1 : high;
  const float inside = c < 0 ? below : above;
  const float least = inside < 0 ? 0.0f : inside;
  return least > length - 1 ? length - 1 : least;
}

// The row or column of the picture that each of `count` pixels of row `out_y` from column `first`
// on shows; -1: none. p[0..2] is that row or column's line of the matrix, `length` their number.
template <bool kMirrored>
void find_places(const float* p, int64_t out_y, int64_t first, int64_t count, int64_t length,
                 int32_t* places) {
  const auto y = static_cast<float>(out_y), n = static_cast<float>(length);
  for (int64_t i = 0; i < count; ++i) {
    const auto x = static_cast<float>(static_cast<int32_t>(first + i));
    const float place = (p[0] * x + p[1] * y) + p[2];
    if constexpr (kMirrored) {  // never outside
      const float at = mirrored(place, n, 2 * n);
      const auto down = static_cast<int32_t>(at);
      places[i] = down + (at - static_cast<float>(down) >= 0.5f ? 1 : 0);
    } else {
      const float at = rounded(place);
      const auto number = static_cast<int32_t>(at);
      places[i] = ((at < 0) | (at >= n)) ? -1 : number;
    }
  }
}

// Pixel numbers; -1 where a place is.
void join_places(const int32_t* __restrict rows, const int32_t* __restrict columns, int64_t count,
                 int64_t width, int32_t* __restrict pixels) {
  const auto stride = static_cast<int32_t>(width);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t pixel = rows[i] * stride + columns[i];
    pixels[i] = (rows[i] | columns[i]) < 0 ? -1 : pixel;
  }
}

void fetch_bytes(const ImageU8& in, const int32_t* pixel, int64_t count, uint8_t* to) {
  const int64_t bytes = in.channels;
  for (int64_t i = 0; i < count; ++i, to += bytes) {
    if (pixel[i] < 0) {
      std::fill_n(to, bytes, kGreyFill);
    } else {
      std::memcpy(to, in.pixels.data() + pixel[i] * bytes, static_cast<size_t>(bytes));
    }
  }
}

// Three bytes a pixel, moved as words of four: the fourth is overwritten by the next pixel. The
// last pixel of all is read, and the last one written, byte by byte.
template <bool kMirrored>
void fetch_words(const ImageU8& in, const int32_t* pixel, int64_t count, uint8_t* to) {
  const uint8_t* from = in.pixels.data();
  const int64_t last = in.height * in.width - 1;
  for (int64_t i = 0; i + 1 < count; ++i, to += 3) {
    uint32_t word = kGreyFill * 0x01010101u;
    if (pixel[i] == last) {
      word = from[3 * last] | from[3 * last + 1] << 8 | from[3 * last + 2] << 16;
    } else if (kMirrored || pixel[i] >= 0) {
      std::memcpy(&word, from + 3 * int64_t{pixel[i]}, sizeof word);
    }
    std::memcpy(to, &word, sizeof word);
  }
  fetch_bytes(in, pixel + count - 1, 1, to);
}

// Chunk by chunk of columns, so that what is the same in all rows or all columns (both of a
// translation, one of a shear) is found once.
template <bool kMirrored>
void warp_all(const float* p, const ImageU8& in, ImageU8& out) {
  int32_t rows[kChunk], columns[kChunk], pixels[kChunk];
  const bool columns_stay = p[1] == 0, row_is_one = p[3] == 0;
  for (int64_t first = 0; first < in.width; first += kChunk) {
    const int64_t count = std::min(kChunk, in.width - first);
    for (int64_t y = 0; y < in.height; ++y) {
      if (y == 0 || !columns_stay) find_places<kMirrored>(p, y, first, count, in.width, columns);
      find_places<kMirrored>(p + 3, y, first, row_is_one ? 1 : count, in.height, rows);
      if (row_is_one) std::fill_n(rows + 1, count - 1, rows[0]);
      join_places(rows, columns, count, in.width, pixels);
      if (in.channels == 3) {
        fetch_words<kMirrored>(in, pixels, count, out.at(y, first));
      } else {
        fetch_bytes(in, pixels, count, out.at(y, first));
      }
    }
  }
}

// Places must fit into 32-bit numbers.
void check_reach(const float* p, const ImageU8& in) {
  const auto width = static_cast<float>(in.width), height = static_cast<float>(in.height);
  for (int i : {0, 3}) {
    const float reach = std::abs(p[i]) * width + std::abs(p[i + 1]) * height + std::abs(p[i + 2]);
    engine::check(reach < 1e9f && in.width * in.height < int64_t{1} << 30,
                  engine::ErrorKind::kValue, "warp: a picture of ", in.height, " x ", in.width,
                  " pixels and places up to ", reach, " are more than it can do");
  }
}

}  // namespace

float reflected(float coordinate, int64_t n) {
  return mirrored(coordinate, static_cast<float>(n), static_cast<float>(2 * n));
}

void warp(const ImageU8& in, const Geometry& geometry, Border border, ImageU8& out) {
  out.reshape(in.height, in.width, in.channels);
  float p[6];
  for (int i = 0; i < 6; ++i) p[i] = static_cast<float>(geometry.pull[i]);
  check_reach(p, in);
  border == Border::kReflect ? warp_all<true>(p, in, out) : warp_all<false>(p, in, out);
}

}  // namespace data
