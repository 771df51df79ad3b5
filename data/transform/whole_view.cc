#include "data/transform/whole_view.h"

#include <algorithm>

#include "data/transform/planes.h"
#include "data/transform/resize.h"
#include "data/transform/resize_pil.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

// The central size x size pixels.
template <class Image>
const Image& central(const Image& in, int64_t size, Image& out) {
  if (in.height == size && in.width == size) return in;
  const int64_t y = (in.height - size) / 2, x = (in.width - size) / 2, channels = in.channels;
  out.reshape(size, size, channels);
  for (int64_t row = 0; row < size; ++row) {
    std::copy_n(in.pixels.data() + ((y + row) * in.width + x) * channels, size * channels,
                out.pixels.data() + row * size * channels);
  }
  return out;
}

}  // namespace

WholeView::WholeView(const Normaliser& normaliser, int64_t image_size, Resize resize,
                     int64_t shorter)
    : normaliser_(normaliser), size_(image_size), shorter_(shorter), resize_(resize) {
  check(shorter == 0 || shorter >= image_size, ErrorKind::kValue, "a central crop of ", image_size,
        " pixels does not fit into pictures whose shorter side is ", shorter);
}

Size WholeView::target(const ImageU8& image) const {
  check(image.height > 0 && image.width > 0, ErrorKind::kShape, "render: a picture of ",
        image.height, " x ", image.width, " pixels");
  return shorter_ > 0 ? small_size(image.height, image.width, shorter_) : Size{size_, size_};
}

const ImageU8& WholeView::bytes_of(const ImageU8& image) {
  const Size to = target(image);
  if (to == Size{image.height, image.width}) return central(image, size_, cropped_);
  if (resize_ == Resize::kPilBilinear) {
    resize_pil_bilinear(image, to.height, to.width, scratch_, bytes_);
  } else {
    resize(image, to.height, to.width, bytes_);
  }
  return central(bytes_, size_, cropped_);
}

void WholeView::render(const ImageU8& image, float* out) {
  if (gives_bytes(resize_)) return normaliser_.apply(bytes_of(image), out);
  const Size to = target(image);
  resize_area(image, to.height, to.width, floats_);
  normaliser_.apply(central(floats_, size_, cropped_floats_), out);
}

void WholeView::render_bytes(const ImageU8& image, uint8_t* out) {
  check(gives_bytes(resize_), ErrorKind::kInternal, "averaged areas are no bytes");
  check(image.channels == normaliser_.channels(), ErrorKind::kShape, "render: ", image.channels,
        " channels, expected ", normaliser_.channels());
  const int64_t plane = size_ * size_;
  split_channels(bytes_of(image).pixels.data(), plane, image.channels, out, plane);
}

}  // namespace data
