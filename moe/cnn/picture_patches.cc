#include "moe/cnn/picture_patches.h"

#include "engine/core/device_memory.h"
#include "engine/core/workspace.h"
#include "engine/ops/gather_pixels.h"
#include "engine/ops/pointwise.h"

namespace moe {

using engine::check;
using engine::ErrorKind;
using engine::Shape;
using engine::Tensor;

namespace {

// What put() writes, `places` numbers, in memory of the device where x lies.
template <class Put>
Tensor index_of(const Tensor& x, int64_t places, const Put& put) {
  const Tensor index = x.tape()->arena().empty({places}, engine::Dtype::kI32);
  if (x.device() == engine::Device::kCpu) {
    put(index.data<int32_t>());
  } else {
    auto* here = engine::workspace<int32_t>(0, places);
    put(here);
    engine::device_upload(index.raw(), here, index.bytes());
  }
  return index;
}

}  // namespace

Tensor cut_patches(const Tensor& x, int64_t grid, int64_t halo) {
  const Shape& s = x.shape();
  const int64_t h = s[1] / grid, w = s[2] / grid, high = h + 2 * halo, wide = w + 2 * halo;
  check(s[1] % grid == 0 && s[2] % grid == 0 && h > 0 && w > 0, ErrorKind::kShape, "a picture of ",
        s[1], " x ", s[2], " pixels cannot be cut into ", grid, " x ", grid, " patches");
  const Tensor index = index_of(x, grid * grid * high * wide, [&](int32_t* to) {
    for (int64_t patch = 0; patch < grid * grid; ++patch) {
      for (int64_t i = 0; i < high; ++i) {
        for (int64_t j = 0; j < wide; ++j) {
          const int64_t row = patch / grid * h + i - halo, column = patch % grid * w + j - halo;
          const bool inside = row >= 0 && row < s[1] && column >= 0 && column < s[2];
          *to++ = static_cast<int32_t>(inside ? row * s[2] + column : -1);
        }
      }
    }
  });
  const Tensor pixels = engine::reshape(x, {s[0], s[1] * s[2], s[3]});
  return engine::reshape(engine::gather_pixels(pixels, index),
                         {s[0] * grid * grid, high, wide, s[3]});
}

Tensor join_patches(const Tensor& patches, int64_t grid) {
  const Shape& s = patches.shape();
  const int64_t count = grid * grid, images = s[0] / count, h = s[1] - 2, w = s[2] - 2;
  check(s[0] % count == 0 && h > 0 && w > 0, ErrorKind::kShape, "patches ", s, " of a grid of ",
        grid, " have no inner pixels to put together");
  const Tensor index = index_of(patches, count * h * w, [&](int32_t* to) {
    for (int64_t row = 0; row < grid * h; ++row) {
      for (int64_t column = 0; column < grid * w; ++column) {
        const int64_t patch = row / h * grid + column / w;
        *to++ = static_cast<int32_t>((patch * s[1] + row % h + 1) * s[2] + column % w + 1);
      }
    }
  });
  const Tensor pixels = engine::reshape(patches, {images, count * s[1] * s[2], s[3]});
  return engine::reshape(engine::gather_pixels(pixels, index), {images, grid * h, grid * w, s[3]});
}

}  // namespace moe
