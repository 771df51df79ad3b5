#include "data/transform/whole_view.h"

#include <algorithm>

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

void WholeView::render(const ImageU8& image, float* out) {
  check(image.height > 0 && image.width > 0, ErrorKind::kShape, "render: a picture of ",
        image.height, " x ", image.width, " pixels");
  const Size to =
      shorter_ > 0 ? small_size(image.height, image.width, shorter_) : Size{size_, size_};
  if (resize_ == Resize::kTfArea) {
    resize_area(image, to.height, to.width, floats_);
    normaliser_.apply(central(floats_, size_, cropped_floats_), out);
    return;
  }
  if (to == Size{image.height, image.width}) {
    normaliser_.apply(central(image, size_, cropped_), out);
    return;
  }
  if (resize_ == Resize::kPilBilinear) {
    resize_pil_bilinear(image, to.height, to.width, scratch_, bytes_);
  } else {
    resize(image, to.height, to.width, bytes_);
  }
  normaliser_.apply(central(bytes_, size_, cropped_), out);
}

}  // namespace data
