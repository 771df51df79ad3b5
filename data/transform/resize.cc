#include "data/transform/resize.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace data {
namespace {

// A sum and a product fused into one instruction round once instead of twice, and a byte
// truncated from the result can differ by one. Here the products are one function, the sums
// another, and neither is inlined.

// out = (b - a) * t
[[gnu::noinline]] void weigh(const float* a, const float* b, const float* t, int64_t n,
                             float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = (b[i] - a[i]) * t[i];
}

[[gnu::noinline]] void weigh(const float* a, const float* b, float t, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = (b[i] - a[i]) * t;
}

// out = a + out
[[gnu::noinline]] void add(const float* a, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + out[i];
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
  for (auto* buffer : {&weight_, &cache_[0], &cache_[1], &from_, &to_, &out_}) buffer->resize(n);
  left_.resize(n);
  right_.resize(n);
  for (int64_t x = 0; x < width; ++x) {
    const int64_t column = box.flip ? width - 1 - x : x;
    for (int64_t c = 0; c < channels_; ++c) {
      left_[c * width + x] = static_cast<int32_t>((box.x + columns_.low[column]) * channels_ + c);
      right_[c * width + x] = static_cast<int32_t>((box.x + columns_.high[column]) * channels_ + c);
      weight_[c * width + x] = columns_.weight[column];
    }
  }
}

// Row y of the box, resized along x; does not overwrite the cached row `keep`.
const float* BilinearRows::source_row(int64_t y, int keep) {
  for (int slot = 0; slot < 2; ++slot) {
    if (cached_[slot] == y) return cache_[slot].data();
  }
  const int slot = 1 - keep;
  const uint8_t* bytes = image_->at(box_.y + y, 0);
  const int64_t n = channels_ * width_;
  for (int64_t i = 0; i < n; ++i) {
    from_[i] = bytes[left_[i]];
    to_[i] = bytes[right_[i]];
  }
  float* row = cache_[slot].data();
  weigh(from_.data(), to_.data(), weight_.data(), n, row);
  add(from_.data(), n, row);
  cached_[slot] = y;
  return row;
}

const float* BilinearRows::row(int64_t y) {
  const int64_t low = rows_.low[y], high = rows_.high[y];
  const int64_t n = channels_ * width_;
  // Never drop the row that is needed next to this one.
  const float* top = source_row(low, cached_[0] == high ? 0 : 1);
  const float* bottom = source_row(high, top == cache_[0].data() ? 0 : 1);
  weigh(top, bottom, rows_.weight[y], n, out_.data());
  add(top, n, out_.data());
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
