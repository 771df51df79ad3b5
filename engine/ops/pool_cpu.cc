#include <algorithm>
#include <cmath>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/ops/pool_kernels.h"

namespace engine::kernels {
namespace {

// Calls f(first element of the output pixel, first element of an input pixel, u * kernel + v) for
// every pixel of every window inside the picture, in row-major order; pictures in parallel, so
// that a gradient's sums have one order. begin(output pixel) comes before each window's.
template <class Begin, class F>
void for_windows(const PoolSize& s, Begin&& begin_window, F&& f) {
  parallel_for(s.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * s.out_h; row < end * s.out_h; ++row) {
      const int64_t b = row / s.out_h, y0 = row % s.out_h * s.stride - s.padding;
      const int64_t first_y = std::max<int64_t>(0, y0), last_y = std::min(s.in_h, y0 + s.kernel);
      for (int64_t j = 0; j < s.out_w; ++j) {
        const int64_t x0 = j * s.stride - s.padding, out = (row * s.out_w + j) * s.channels;
        const int64_t last_x = std::min(s.in_w, x0 + s.kernel);
        begin_window(out);
        for (int64_t y = first_y; y < last_y; ++y) {
          for (int64_t x = std::max<int64_t>(0, x0); x < last_x; ++x) {
            f(out, ((b * s.in_h + y) * s.in_w + x) * s.channels, (y - y0) * s.kernel + x - x0);
          }
        }
      }
    }
  });
}

}  // namespace

template <class T>
void max_pool_forward(Cpu, const T* x, T* y, uint8_t* winner, const PoolSize& size) {
  const int64_t channels = size.channels;
  for_windows(
      size,
      [=](int64_t out) {
        std::fill_n(y + out, channels, -std::numeric_limits<T>::infinity());
        std::fill_n(winner + out, channels, uint8_t{255});  // nothing yet
      },
      [=](int64_t out, int64_t in, int64_t at) {
        for (int64_t c = 0; c < channels; ++c) {
          const T v = x[in + c];
          // Also the first pixel of all, if it is -inf; a NaN stays once it is there.
          if (v > y[out + c] || winner[out + c] == 255 ||
              (std::isnan(v) && !std::isnan(y[out + c]))) {
            y[out + c] = v;
            winner[out + c] = static_cast<uint8_t>(at);
          }
        }
      });
}

template <class T>
void max_pool_backward(Cpu, const T* dy, const uint8_t* winner, T* dx, const PoolSize& size) {
  const int64_t channels = size.channels;
  for_windows(
      size, [](int64_t) {},
      [=](int64_t out, int64_t in, int64_t at) {
        for (int64_t c = 0; c < channels; ++c) {
          dx[in + c] += winner[out + c] == at ? dy[out + c] : T(0);
        }
      });
}

template <class T>
void average_pool_forward(Cpu, const T* x, T* y, const PoolSize& size) {
  const int64_t channels = size.channels;
  const T share = T(1) / static_cast<T>(size.kernel * size.kernel);
  for_windows(
      size, [=](int64_t out) { std::fill_n(y + out, channels, T(0)); },
      [=](int64_t out, int64_t in, int64_t) {
        simd::for_lanes<T>(channels, [&](int64_t i, int64_t n) {
          const auto sum = simd::load_n(y + out + i, n);
          simd::store_n(y + out + i, simd::fma(simd::load_n(x + in + i, n), simd::set(share), sum),
                        n);
        });
      });
}

template <class T>
void average_pool_backward(Cpu, const T* dy, T* dx, const PoolSize& size) {
  const int64_t channels = size.channels;
  const T share = T(1) / static_cast<T>(size.kernel * size.kernel);
  for_windows(
      size, [](int64_t) {},
      [=](int64_t out, int64_t in, int64_t) {
        simd::for_lanes<T>(channels, [&](int64_t i, int64_t n) {
          const auto sum = simd::load_n(dx + in + i, n);
          simd::store_n(dx + in + i,
                        simd::fma(simd::load_n(dy + out + i, n), simd::set(share), sum), n);
        });
      });
}

template void max_pool_forward(Cpu, const float*, float*, uint8_t*, const PoolSize&);
template void max_pool_forward(Cpu, const double*, double*, uint8_t*, const PoolSize&);
template void max_pool_backward(Cpu, const float*, const uint8_t*, float*, const PoolSize&);
template void max_pool_backward(Cpu, const double*, const uint8_t*, double*, const PoolSize&);
template void average_pool_forward(Cpu, const float*, float*, const PoolSize&);
template void average_pool_forward(Cpu, const double*, double*, const PoolSize&);
template void average_pool_backward(Cpu, const float*, float*, const PoolSize&);
template void average_pool_backward(Cpu, const double*, double*, const PoolSize&);

}  // namespace engine::kernels
