#include <cmath>

#include "engine/core/cuda_launch.cuh"
#include "engine/ops/pool_kernels.h"

// One thread an element of what is written, channels fastest; backwards gather from the windows
// that hold a pixel, in row-major order.
namespace engine::kernels {
namespace {

// Element i of (batch, h, w, channels).
struct Place {
  int64_t b, y, x, c;
  __device__ Place(int64_t i, int64_t h, int64_t w, int64_t channels) {
    c = i % channels;
    i /= channels;
    x = i % w;
    i /= w;
    y = i % h;
    b = i / h;
  }
};

// Calls f(element of the input, u * kernel + v) for the pixels of output element `out`'s window.
template <class F>
__device__ void for_window(const PoolSize& s, int64_t out, F&& f) {
  const Place at(out, s.out_h, s.out_w, s.channels);
  const int64_t y0 = at.y * s.stride - s.padding, x0 = at.x * s.stride - s.padding;
  const int64_t last_y = min(s.in_h, y0 + s.kernel), last_x = min(s.in_w, x0 + s.kernel);
  for (int64_t y = max(int64_t{0}, y0); y < last_y; ++y) {
    for (int64_t x = max(int64_t{0}, x0); x < last_x; ++x) {
      f(((at.b * s.in_h + y) * s.in_w + x) * s.channels + at.c,
        static_cast<int>((y - y0) * s.kernel + x - x0));
    }
  }
}

// The windows [first, last) along one axis that hold input position `at`.
struct Span {
  int64_t first, last;
  __device__ Span(int64_t at, const PoolSize& s, int64_t out) {
    const int64_t end = at + s.padding;  // the last window starts here or before
    first = end < s.kernel ? 0 : (end - s.kernel) / s.stride + 1;
    last = min(out, end / s.stride + 1);
  }
};

// Calls f(element of the output, u * kernel + v) for the windows that hold input element `in`.
template <class F>
__device__ void for_windows_of(const PoolSize& s, int64_t in, F&& f) {
  const Place at(in, s.in_h, s.in_w, s.channels);
  const Span down(at.y, s, s.out_h), across(at.x, s, s.out_w);
  for (int64_t i = down.first; i < down.last; ++i) {
    const int64_t u = at.y + s.padding - i * s.stride;
    for (int64_t j = across.first; j < across.last; ++j) {
      const int64_t v = at.x + s.padding - j * s.stride;
      f(((at.b * s.out_h + i) * s.out_w + j) * s.channels + at.c,
        static_cast<int>(u * s.kernel + v));
    }
  }
}

int64_t inputs(const PoolSize& s) { return s.batch * s.in_h * s.in_w * s.channels; }
int64_t outputs(const PoolSize& s) { return s.batch * s.out_h * s.out_w * s.channels; }

}  // namespace

template <class T>
void max_pool_forward(Cuda on, const T* x, T* y, uint8_t* winner, const PoolSize& size) {
  launch_each(on, outputs(size), [=] __device__(int64_t out) {
    T best = 0;
    int place = -1;
    for_window(size, out, [&](int64_t in, int at) {
      const T v = x[in];
      // A NaN stays once it is there.
      if (place < 0 || v > best || (v != v && best == best)) {
        best = v;
        place = at;
      }
    });
    y[out] = best;
    winner[out] = static_cast<uint8_t>(place);
  });
}

template <class T>
void max_pool_backward(Cuda on, const T* dy, const uint8_t* winner, T* dx, const PoolSize& size) {
  launch_each(on, inputs(size), [=] __device__(int64_t in) {
    T sum = dx[in];
    for_windows_of(size, in, [&](int64_t out, int at) {
      if (winner[out] == at) sum += dy[out];
    });
    dx[in] = sum;
  });
}

template <class T>
void average_pool_forward(Cuda on, const T* x, T* y, const PoolSize& size) {
  const T share = T(1) / static_cast<T>(size.kernel * size.kernel);
  launch_each(on, outputs(size), [=] __device__(int64_t out) {
    T sum = 0;
    for_window(size, out, [&](int64_t in, int) { sum += x[in] * share; });
    y[out] = sum;
  });
}

template <class T>
void average_pool_backward(Cuda on, const T* dy, T* dx, const PoolSize& size) {
  const T share = T(1) / static_cast<T>(size.kernel * size.kernel);
  launch_each(on, inputs(size), [=] __device__(int64_t in) {
    T sum = dx[in];
    for_windows_of(size, in, [&](int64_t out, int) { sum += dy[out] * share; });
    dx[in] = sum;
  });
}

template void max_pool_forward(Cuda, const float*, float*, uint8_t*, const PoolSize&);
template void max_pool_forward(Cuda, const double*, double*, uint8_t*, const PoolSize&);
template void max_pool_backward(Cuda, const float*, const uint8_t*, float*, const PoolSize&);
template void max_pool_backward(Cuda, const double*, const uint8_t*, double*, const PoolSize&);
template void average_pool_forward(Cuda, const float*, float*, const PoolSize&);
template void average_pool_forward(Cuda, const double*, double*, const PoolSize&);
template void average_pool_backward(Cuda, const float*, float*, const PoolSize&);
template void average_pool_backward(Cuda, const double*, double*, const PoolSize&);

}  // namespace engine::kernels
