#pragma once

#include "engine/core/backend.h"
#include "engine/ops/mix_images.h"

// Raw kernel of mix_images.
namespace engine::kernels {

struct ImageSize {
  int64_t channels, height, width;
  int64_t numel() const { return channels * height * width; }
};

// y (end - begin images) from x (all images of the batch); mixes (end - begin).
template <class T>
void mix_images(Cpu, const T* x, const ImageMix* mixes, T* y, int64_t begin, int64_t end,
                ImageSize size);
template <class T>
void mix_images(Cuda, const T* x, const ImageMix* mixes, T* y, int64_t begin, int64_t end,
                ImageSize size);

}  // namespace engine::kernels
