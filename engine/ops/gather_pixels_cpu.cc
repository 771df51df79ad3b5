#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/ops/gather_pixels_kernels.h"

namespace engine::kernels {

template <class T>
void gather_pixels_forward(Cpu, const T* x, const int32_t* index, T* y, const PixelMoves& size) {
  parallel_for(size.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const T* own = x + b * size.pixels * size.channels;
      T* to = y + b * size.places * size.channels;
      for (int64_t q = 0; q < size.places; ++q, to += size.channels) {
        if (index[q] < 0) {
          std::fill_n(to, size.channels, T(0));
        } else {
          std::copy_n(own + index[q] * size.channels, size.channels, to);
        }
      }
    }
  });
}

template <class T>
void gather_pixels_backward(Cpu, const T* dy, const int32_t* index, T* dx, const PixelMoves& size) {
  parallel_for(size.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const T* g = dy + b * size.places * size.channels;
      T* own = dx + b * size.pixels * size.channels;
      for (int64_t q = 0; q < size.places; ++q, g += size.channels) {
        if (index[q] < 0) continue;
        T* sum = own + index[q] * size.channels;
        for (int64_t c = 0; c < size.channels; ++c) sum[c] += g[c];
      }
    }
  });
}

template void gather_pixels_forward(Cpu, const float*, const int32_t*, float*, const PixelMoves&);
template void gather_pixels_forward(Cpu, const double*, const int32_t*, double*, const PixelMoves&);
template void gather_pixels_backward(Cpu, const float*, const int32_t*, float*, const PixelMoves&);
template void gather_pixels_backward(Cpu, const double*, const int32_t*, double*,
                                     const PixelMoves&);

}  // namespace engine::kernels
