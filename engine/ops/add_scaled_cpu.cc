#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/ops/add_scaled_kernels.h"

namespace engine::kernels {

template <class T>
void add_scaled(Cpu, const T* x, const T* branch, const float* factors, T* y, int64_t images,
                int64_t size) {
  parallel_for(images, rows_per_grain(size), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const T *from = x + n * size, *add = branch + n * size;
      T* to = y + n * size;
      if (factors[n] == 0) {
        std::copy_n(from, size, to);
        continue;
      }
      const auto factor = simd::set(static_cast<T>(factors[n]));
      simd::for_lanes<T>(size, [&](int64_t i, int64_t lanes) {
        const auto scaled = simd::mul(factor, simd::load_n(add + i, lanes));
        simd::store_n(to + i, simd::add(simd::load_n(from + i, lanes), scaled), lanes);
      });
    }
  });
}

template <class T>
void add_scaled_backward(Cpu, const T* dy, const float* factors, T* d, int64_t images, int64_t size,
                         GradWrite write) {
  const bool accumulate = write == GradWrite::kAccumulate;
  parallel_for(images, rows_per_grain(size), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const T* from = dy + n * size;
      T* to = d + n * size;
      const auto factor = simd::set(static_cast<T>(factors[n]));
      simd::for_lanes<T>(size, [&](int64_t i, int64_t lanes) {
        simd::put_n(to + i, simd::mul(factor, simd::load_n(from + i, lanes)), lanes, accumulate);
      });
    }
  });
}

template void add_scaled(Cpu, const float*, const float*, const float*, float*, int64_t, int64_t);
template void add_scaled(Cpu, const double*, const double*, const float*, double*, int64_t,
                         int64_t);
template void add_scaled_backward(Cpu, const float*, const float*, float*, int64_t, int64_t,
                                  GradWrite);
template void add_scaled_backward(Cpu, const double*, const float*, double*, int64_t, int64_t,
                                  GradWrite);

}  // namespace engine::kernels
