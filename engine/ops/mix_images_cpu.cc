#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/ops/mix_images_kernels.h"

namespace engine::kernels {
namespace {

template <class T>
void mix_one(const T* image, const T* partner, const ImageMix& mix, T* out, ImageSize size) {
  const auto own = static_cast<T>(mix.own);
  const T other = T(1) - own;
  if (other == T(0)) {
    std::copy_n(image, size.numel(), out);
  } else {
    for (int64_t i = 0; i < size.numel(); ++i) out[i] = own * image[i] + other * partner[i];
  }
  for (int64_t c = 0; c < size.channels; ++c) {
    for (int64_t row = mix.y; row < mix.y + mix.height; ++row) {
      const int64_t at = (c * size.height + row) * size.width + mix.x;
      std::copy_n(partner + at, mix.width, out + at);
    }
  }
}

}  // namespace

template <class T>
void mix_images(Cpu, const T* x, const ImageMix* mixes, T* y, int64_t begin, int64_t end,
                ImageSize size) {
  const int64_t image = size.numel();
  parallel_for(end - begin, rows_per_grain(image), [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const ImageMix& mix = mixes[i];
      mix_one(x + (begin + i) * image, x + mix.partner * image, mix, y + i * image, size);
    }
  });
}

template void mix_images(Cpu, const float*, const ImageMix*, float*, int64_t, int64_t, ImageSize);
template void mix_images(Cpu, const double*, const ImageMix*, double*, int64_t, int64_t, ImageSize);

}  // namespace engine::kernels
