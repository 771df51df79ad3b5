#include "engine/core/cuda_workspace.h"
#include "engine/ops/gather_pixels_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

template <class T, int kVec>
void forward(Cuda on, const T* x, const int32_t* index, T* y, const PixelMoves& size) {
  const int64_t packs = size.channels / kVec, places = size.places, pixels = size.pixels;
  launch_each(on, size.batch * places * packs, [=] __device__(int64_t i) {
    const int64_t c = i % packs, q = i / packs % places, b = i / packs / places;
    const int64_t from = index[q];
    Pack<T, kVec> v{};
    if (from >= 0) v = Pack<T, kVec>::load(x + ((b * pixels + from) * packs + c) * kVec);
    v.store(y + i * kVec);
  });
}

// The first place from `q` on that takes `pixel`, else -1.
__device__ int32_t place_of(const int32_t* index, int64_t q, int64_t places, int64_t pixel) {
  for (; q < places; ++q) {
    if (index[q] == pixel) return static_cast<int32_t>(q);
  }
  return -1;
}

template <class T, int kVec>
void backward(Cuda on, const T* dy, const int32_t* first, const int32_t* next, T* dx,
              const PixelMoves& size) {
  const int64_t packs = size.channels / kVec, places = size.places, pixels = size.pixels;
  launch_each(on, size.batch * pixels * packs, [=] __device__(int64_t i) {
    const int64_t c = i % packs, p = i / packs % pixels, b = i / packs / pixels;
    int64_t q = first[p];
    if (q < 0) return;
    auto sum = Pack<T, kVec>::load(dx + i * kVec);
    for (; q >= 0; q = next[q]) {
      const auto g = Pack<T, kVec>::load(dy + ((b * places + q) * packs + c) * kVec);
      for (int j = 0; j < kVec; ++j) sum.v[j] += g.v[j];
    }
    sum.store(dx + i * kVec);
  });
}

}  // namespace

template <class T>
void gather_pixels_forward(Cuda on, const T* x, const int32_t* index, T* y,
                           const PixelMoves& size) {
  if (packable<T>(size.channels, x, y)) {
    forward<T, kPack<T>>(on, x, index, y, size);
  } else {
    forward<T, 1>(on, x, index, y, size);
  }
}

// Each pixel follows the chain of the places that took it, which is found first and serves all
// pictures: first[p], then next[q].
template <class T>
void gather_pixels_backward(Cuda on, const T* dy, const int32_t* index, T* dx,
                            const PixelMoves& size) {
  const int64_t pixels = size.pixels, places = size.places;
  int32_t* first = static_cast<int32_t*>(
      cuda_workspace((pixels + places) * static_cast<int64_t>(sizeof(int32_t))));
  int32_t* next = first + pixels;
  launch_each(on, pixels + places, [=] __device__(int64_t i) {
    if (i < pixels) {
      first[i] = place_of(index, 0, places, i);
    } else {
      const int64_t q = i - pixels;
      next[q] = index[q] < 0 ? -1 : place_of(index, q + 1, places, index[q]);
    }
  });
  if (packable<T>(size.channels, dy, dx)) {
    backward<T, kPack<T>>(on, dy, first, next, dx, size);
  } else {
    backward<T, 1>(on, dy, first, next, dx, size);
  }
}

template void gather_pixels_forward(Cuda, const float*, const int32_t*, float*, const PixelMoves&);
template void gather_pixels_forward(Cuda, const double*, const int32_t*, double*,
                                    const PixelMoves&);
template void gather_pixels_backward(Cuda, const float*, const int32_t*, float*, const PixelMoves&);
template void gather_pixels_backward(Cuda, const double*, const int32_t*, double*,
                                     const PixelMoves&);

}  // namespace engine::kernels
