#pragma once

#include <limits>

#include "engine/core/simd.h"

// One row of softmax on registers, shared by softmax and attention. *_cpu.cc only.
namespace engine::simd {

// y = softmax(scale * x) over `count` entries; y may be x. scale > 0.
template <class T>
void softmax_row(const T* x, T* y, int64_t count, T scale) {
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  Packet<T> top = set(kLowest);
  for_lanes<T>(count, [&](int64_t i, int64_t n) { top = max(top, load_n(x + i, n, kLowest)); });
  const Packet<T> row_max = set(T(max_lanes<T>(top) * scale)), factor = set(scale);
  Packet<T> total = set(T(0));
  for_lanes<T>(count, [&](int64_t i, int64_t n) {
    const Packet<T> e = exp(sub(mul(load_n(x + i, n, kLowest), factor), row_max));
    store_n(y + i, e, n);
    total = add(total, n == kLanes<T> ? e : load_n(y + i, n));
  });
  const Packet<T> inverse = set(T(T(1) / sum_lanes<T>(total)));
  map(count, y, y, [&](const Packet<T>& e) { return mul(e, inverse); });
}

// dx = scale * y (dy - sum y dy), written or added; dx may be dy when written.
template <class T>
void softmax_row_backward(const T* y, const T* dy, T* dx, int64_t count, T scale, bool accumulate) {
  const Packet<T> dot = set(reduce_sum<T>(
      count, [&](int64_t i, int64_t n) { return mul(load_n(y + i, n), load_n(dy + i, n)); }));
  const Packet<T> factor = set(scale);
  for_lanes<T>(count, [&](int64_t i, int64_t n) {
    const Packet<T> g = mul(load_n(y + i, n), sub(load_n(dy + i, n), dot));
    put_n(dx + i, mul(g, factor), n, accumulate);
  });
}

}  // namespace engine::simd
