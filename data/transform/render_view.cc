#include "data/transform/render_view.h"

#include <algorithm>
#include <utility>

#include "data/transform/flip.h"
#include "data/transform/pad_crop.h"
#include "data/transform/planes.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

}  // namespace

ViewRenderer::ViewRenderer(Normaliser normaliser, int64_t image_size)
    : normaliser_(std::move(normaliser)),
      size_(image_size),
      bytes_(static_cast<size_t>(normaliser_.channels() * image_size)) {}

void ViewRenderer::warm_up(int64_t height, int64_t width) {
  padded_.reshape(height, width, normaliser_.channels());
  rows_.start(padded_, {height, width, 0, 0, false}, size_, size_);
}

void ViewRenderer::copy(const ImageU8& image, const CropBox& box, float* out) const {
  for (int64_t c = 0; c < image.channels; ++c) {
    const float* values = normaliser_.table(c);
    for (int64_t y = 0; y < size_; ++y) {
      const uint8_t* first = image.at(box.y + y, box.x) + c;
      const uint8_t* pixel = box.flip ? first + (size_ - 1) * image.channels : first;
      const int64_t stride = box.flip ? -image.channels : image.channels;
      for (int64_t x = 0; x < size_; ++x) *out++ = values[pixel[x * stride]];
    }
  }
}

void ViewRenderer::check_input(const ImageU8& image, const CropBox& box) const {
  check(image.channels == normaliser_.channels(), ErrorKind::kShape, "render: ", image.channels,
        " channels, expected ", normaliser_.channels());
  check(box.h > 0 && box.w > 0, ErrorKind::kShape, "render: crop of ", box.h, "x", box.w,
        ", expected sizes above 0");
}

void ViewRenderer::cut(const ImageU8& image, const CropBox& box, ImageU8& out) {
  check_input(image, box);
  if (!box.inside(image.height, image.width)) {
    crop(image, box, padded_);
    return cut(padded_, {box.h, box.w, 0, 0, box.flip}, out);
  }
  const int64_t channels = image.channels;
  out.reshape(size_, size_, channels);
  if (box.h == size_ && box.w == size_) {
    for (int64_t y = 0; y < size_; ++y) {
      std::copy_n(image.at(box.y + y, box.x), size_ * channels, out.at(y, 0));
    }
    if (box.flip) flip(out);
    return;
  }
  rows_.start(image, box, size_, size_);
  for (int64_t y = 0; y < size_; ++y) {
    const float* row = rows_.row(y);
    uint8_t *to = out.at(y, 0), *bytes = bytes_.data();
    truncate_to_bytes(row, channels * size_, bytes);
    if (channels == 3) {
      join3(bytes, bytes + size_, bytes + 2 * size_, size_, to);
    } else {
      for (int64_t i = 0; i < channels * size_; ++i)
        to[i % size_ * channels + i / size_] = bytes[i];
    }
  }
}

void ViewRenderer::render(const ImageU8& image, const CropBox& box, float* out) {
  check_input(image, box);
  if (!box.inside(image.height, image.width)) {
    crop(image, box, padded_);
    return render(padded_, {box.h, box.w, 0, 0, box.flip}, out);
  }
  if (box.h == size_ && box.w == size_) return copy(image, box, out);
  rows_.start(image, box, size_, size_);
  for (int64_t y = 0; y < size_; ++y) {
    truncate_to_bytes(rows_.row(y), image.channels * size_, bytes_.data());
    for (int64_t c = 0; c < image.channels; ++c) {
      normaliser_.look_up(bytes_.data() + c * size_, size_, c, out + (c * size_ + y) * size_);
    }
  }
}

void ViewRenderer::render_bytes(const ImageU8& image, const CropBox& box, uint8_t* out) {
  check_input(image, box);
  if (!box.inside(image.height, image.width)) {
    crop(image, box, padded_);
    return render_bytes(padded_, {box.h, box.w, 0, 0, false}, out);
  }
  const int64_t channels = image.channels, plane = size_ * size_;
  if (box.h == size_ && box.w == size_) {
    for (int64_t y = 0; y < size_; ++y) {
      split_channels(image.at(box.y + y, box.x), size_, channels, out + y * size_, plane);
    }
    return;
  }
  rows_.start(image, {box.h, box.w, box.y, box.x, false}, size_, size_);
  for (int64_t y = 0; y < size_; ++y) {
    const float* row = rows_.row(y);
    for (int64_t c = 0; c < channels; ++c) {
      truncate_to_bytes(row + c * size_, size_, out + c * plane + y * size_);
    }
  }
}

}  // namespace data
