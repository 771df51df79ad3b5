#include "engine/core/cuda_launch.cuh"
#include "engine/ops/mix_images_kernels.h"

namespace engine::kernels {
namespace {

// One image's elements (fewer than 2^31) in `cuts` blocks, one a thread.
template <class T>
__global__ void __launch_bounds__(kEachThreads)
    mix_kernel(const T* x, const ImageMix* mixes, T* y, int64_t begin, uint32_t count,
               uint32_t height, uint32_t width, unsigned cuts) {
  const int64_t n = blockIdx.x / cuts;
  const uint32_t i = blockIdx.x % cuts * kEachThreads + threadIdx.x;
  if (i >= count) return;
  const ImageMix mix = mixes[n];
  const T own = static_cast<T>(mix.own), other = T(1) - own;
  const int64_t row = i / width % height - mix.y, column = i % width - mix.x;
  const bool inside = row >= 0 && row < mix.height && column >= 0 && column < mix.width;
  const T* partner = x + mix.partner * count + i;
  T value;
  if (inside) {
    value = *partner;
  } else {
    value = x[(begin + n) * count + i];
    if (other != T(0)) value = own * value + other * *partner;
  }
  y[n * count + i] = value;
}

}  // namespace

template <class T>
void mix_images(Cuda on, const T* x, const ImageMix* mixes, T* y, int64_t begin, int64_t end,
                ImageSize size) {
  const int64_t count = size.numel();
  if (begin == end || count == 0) return;
  check(count <= INT32_MAX, ErrorKind::kShape, "mix_images: an image of ", count, " elements");
  const unsigned cuts = blocks_for(count, kEachThreads);
  launch(on, blocks_for((end - begin) * cuts, 1), kEachThreads, mix_kernel<T>, x, mixes, y, begin,
         static_cast<uint32_t>(count), static_cast<uint32_t>(size.height),
         static_cast<uint32_t>(size.width), cuts);
}

template void mix_images(Cuda, const float*, const ImageMix*, float*, int64_t, int64_t, ImageSize);
template void mix_images(Cuda, const double*, const ImageMix*, double*, int64_t, int64_t,
                         ImageSize);

}  // namespace engine::kernels
