#include "data/transform/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/error.h"

namespace data {
namespace {

// Where one pixel of a row ends up: a word that holds its three bytes, and one byte more.
inline uint32_t word_at(const uint8_t* bytes) {
  uint32_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// The pixels at `places` (in bytes) of a row.
void pick(const uint8_t* __restrict row, const int32_t* __restrict places, int64_t count,
          uint32_t* __restrict words) {
  for (int64_t i = 0; i < count; ++i) words[i] = word_at(row + places[i]);
}

inline float byte_of(uint32_t word, int channel) {
  return static_cast<float>(static_cast<int32_t>(word >> (8 * channel) & 0xff));
}

// out = a + (b - a) * t of one channel of pixels a and b
template <int kChannel>
void mix_pixels(const uint32_t* __restrict a, const uint32_t* __restrict b,
                const float* __restrict t, int64_t n, float* __restrict out) {
  for (int64_t i = 0; i < n; ++i) {
    const float from = byte_of(a[i], kChannel), to = byte_of(b[i], kChannel);
    out[i] = from + (to - from) * t[i];
  }
}

// out = a + (b - a) * t of two rows
void mix_rows(const float* __restrict a, const float* __restrict b, float t, int64_t n,
              float* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + (b[i] - a[i]) * t;
}

}  // namespace

void BilinearRows::Axis::set(int64_t in, int64_t out) {
  low.resize(static_cast<size_t>(out));
  high.resize(static_cast<size_t>(out));
  weight.resize(static_cast<size_t>(out));
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  for (int64_t i = 0; i < out; ++i) {
    const volatile float scaled = (static_cast<float>(i) + 0.5f) * scale;  // not fused with - 0.5
    const float s = scaled - 0.5f;
    const float below = std::floor(s);
    low[i] = std::max(static_cast<int32_t>(below), 0);
    high[i] = std::min(static_cast<int32_t>(std::ceil(s)), static_cast<int32_t>(in - 1));
    weight[i] = s - below;
  }
}

void BilinearRows::start(const ImageU8& image, const CropBox& box, int64_t height, int64_t width) {
  image_ = &image;
  box_ = box;
  width_ = width;
  channels_ = image.channels;
  cached_[0] = cached_[1] = -1;
  rows_.set(box.h, height);
  columns_.set(box.w, width);
  const auto n = static_cast<size_t>(channels_ * width);
  for (auto* buffer : {&cache_[0], &cache_[1], &out_}) buffer->resize(n);
  for (auto* places : {&left_, &right_}) places->resize(static_cast<size_t>(width));
  for (auto* words : {&from_, &to_}) words->resize(static_cast<size_t>(width));
  weight_.resize(static_cast<size_t>(width));
  last_row_.resize(static_cast<size_t>(image.width * channels_) + sizeof(uint32_t));
  for (int64_t x = 0; x < width; ++x) {
    const int64_t column = box.flip ? width - 1 - x : x;
    left_[x] = static_cast<int32_t>((box.x + columns_.low[column]) * channels_);
    right_[x] = static_cast<int32_t>((box.x + columns_.high[column]) * channels_);
    weight_[x] = columns_.weight[column];
  }
}

// Row y of the picture with a few bytes after it that may be read.
const uint8_t* BilinearRows::readable_row(int64_t y) {
  const uint8_t* bytes = image_->at(y, 0);
  const int64_t n = image_->width * channels_, after = (image_->height - y - 1) * n;
  if (after >= static_cast<int64_t>(sizeof(uint32_t))) return bytes;
  std::copy_n(bytes, n, last_row_.begin());
  return last_row_.data();
}

// Row y of the box, resized along x; does not overwrite the cached row `keep`.
const float* BilinearRows::source_row(int64_t y, int keep) {
  for (int slot = 0; slot < 2; ++slot) {
    if (cached_[slot] == y) return cache_[slot].data();
  }
  const int slot = 1 - keep;
  cached_[slot] = y;
  float* row = cache_[slot].data();
  const uint8_t* bytes = readable_row(box_.y + y);
  for (int64_t first = 0; first < channels_; first += 3) {
    pick(bytes + first, left_.data(), width_, from_.data());
    pick(bytes + first, right_.data(), width_, to_.data());
    const uint32_t *from = from_.data(), *to = to_.data();
    const float* t = weight_.data();
    float* out = row + first * width_;
    mix_pixels<0>(from, to, t, width_, out);
    if (first + 1 < channels_) mix_pixels<1>(from, to, t, width_, out + width_);
    if (first + 2 < channels_) mix_pixels<2>(from, to, t, width_, out + 2 * width_);
  }
  return row;
}

const float* BilinearRows::row(int64_t y) {
  const int64_t low = rows_.low[y], high = rows_.high[y];
  const int64_t n = channels_ * width_;
  // Never drop the row that is needed next to this one.
  const float* top = source_row(low, cached_[0] == high ? 0 : 1);
  const float* bottom = source_row(high, top == cache_[0].data() ? 0 : 1);
  mix_rows(top, bottom, rows_.weight[y], n, out_.data());
  return out_.data();
}

void resize(const ImageU8& in, int64_t height, int64_t width, ImageU8& out) {
  engine::check(in.height > 0 && in.width > 0 && height > 0 && width > 0, engine::ErrorKind::kShape,
                "resize: ", in.height, "x", in.width, " to ", height, "x", width,
                ", expected sizes above 0");
  out.reshape(height, width, in.channels);
  BilinearRows rows;
  rows.start(in, {in.height, in.width, 0, 0, false}, height, width);
  for (int64_t y = 0; y < height; ++y) {
    const float* row = rows.row(y);
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < in.channels; ++c) {
        out.at(y, x)[c] = static_cast<uint8_t>(row[c * width + x]);
      }
    }
  }
}

}  // namespace data
