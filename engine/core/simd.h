#pragma once

// Vector registers for CPU kernels, through Eigen's packet layer: one source for SSE,
// AVX2, AVX-512 and f32 / f64. Include it in *_cpu.cc files only.
//
// Every loop here pads its tail with a partial register instead of falling back to scalar
// code, and reductions run in one fixed order from the start of the row. So an element's
// bits never depend on its position, its address or on how many neighbours it has; Eigen's
// own array expressions promise none of that (vector and scalar exp differ in the last
// bit, and redux peels by address).

#include <Eigen/Core>
#include <cstdint>
#include <cstring>

namespace engine::simd {

template <class T>
using Packet = typename Eigen::internal::packet_traits<T>::type;
template <class T>
inline constexpr int kLanes = Eigen::internal::packet_traits<T>::size;

namespace ei = Eigen::internal;

template <class T>
Packet<T> load(const T* p) {
  return ei::ploadu<Packet<T>>(p);
}
template <class T>
void store(T* p, const Packet<T>& x) {
  ei::pstoreu(p, x);
}
template <class T>
Packet<T> set(T x) {
  return ei::pset1<Packet<T>>(x);
}

// Writes past the caches, without reading what was there: for large results that are read much
// later. p lies on a register's own boundary. stream_end() before another thread may read.
template <class T>
void stream(T* p, const Packet<T>& x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float)) {
    _mm512_stream_ps(p, x);
  } else {
    _mm512_stream_pd(p, x);
  }
#elif defined(__AVX__)
  if constexpr (sizeof(T) == sizeof(float)) {
    _mm256_stream_ps(p, x);
  } else {
    _mm256_stream_pd(p, x);
  }
#else
  store(p, x);
#endif
}
inline void stream_end() {
#if defined(__SSE__)
  _mm_sfence();
#endif
}

// The first n < kLanes elements; the rest is `fill`.
template <class T>
Packet<T> load_part(const T* p, int64_t n, T fill = T(0)) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == sizeof(float)) {
    return _mm512_mask_loadu_ps(set(fill), static_cast<__mmask16>((1u << n) - 1), p);
  } else {
    return _mm512_mask_loadu_pd(set(fill), static_cast<__mmask8>((1u << n) - 1), p);
  }
#else
  T lanes[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = i < n ? p[i] : fill;
  return load(lanes);
#endif
}
template <class T>
void store_part(T* p, const Packet<T>& x, int64_t n) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == sizeof(float)) {
    return _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), x);
  } else {
    return _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), x);
  }
#else
  T lanes[kLanes<T>];
  store(lanes, x);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(T));
#endif
}

template <class P>
P add(const P& a, const P& b) {
  return ei::padd(a, b);
}
template <class P>
P sub(const P& a, const P& b) {
  return ei::psub(a, b);
}
template <class P>
P mul(const P& a, const P& b) {
  return ei::pmul(a, b);
}
template <class P>
P div(const P& a, const P& b) {
  return ei::pdiv(a, b);
}
// a*b + c with one rounding.
template <class P>
P fma(const P& a, const P& b, const P& c) {
  return ei::pmadd(a, b, c);
}
template <class P>
P exp(const P& a) {
  return ei::pexp(a);
}
template <class P>
P max(const P& a, const P& b) {
  return ei::pmax(a, b);
}
template <class P>
P min(const P& a, const P& b) {
  return ei::pmin(a, b);
}
template <class P>
P sqrt(const P& a) {
  return ei::psqrt(a);
}
// max(x, 0), but NaN for NaN.
template <class T>
Packet<T> relu(const Packet<T>& x) {
  return ei::pselect(ei::pcmp_le(x, set(T(0))), set(T(0)), x);
}
// value where y > 0, else 0.
template <class T>
Packet<T> where_positive(const Packet<T>& y, const Packet<T>& value) {
  return ei::pselect(ei::pcmp_lt(set(T(0)), y), value, set(T(0)));
}

// Calls f(i, n) for every register of a row of `count` elements: n lanes from i on.
template <class T, class F>
void for_lanes(int64_t count, F&& f) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) f(i, int64_t{kLanes<T>});
  if (i < count) f(i, count - i);
}
template <class T>
Packet<T> load_n(const T* p, int64_t n, T fill = T(0)) {
  return n == kLanes<T> ? load(p) : load_part(p, n, fill);
}
template <class T>
void store_n(T* p, const Packet<T>& x, int64_t n) {
  if (n == kLanes<T>) {
    store(p, x);
  } else {
    store_part(p, x, n);
  }
}
// Writes x, or adds it to what is there.
template <class T>
void put_n(T* p, const Packet<T>& x, int64_t n, bool accumulate) {
  store_n(p, accumulate ? add(load_n(p, n), x) : x, n);
}

// y[i] = f(x[i]) over a row, on registers.
template <class T, class F>
void map(int64_t count, const T* x, T* y, F&& f) {
  for_lanes<T>(count, [&](int64_t i, int64_t n) { store_n(y + i, f(load_n(x + i, n)), n); });
}

// Sum of all lanes, pairwise in a fixed order.
template <class T>
T sum_lanes(const Packet<T>& x) {
  return ei::predux(x);
}
template <class T>
T max_lanes(const Packet<T>& x) {
  return ei::predux_max(x);
}

// sum_i f(i-th register); the tail's missing lanes must come out of f as zeros.
template <class T, class F>
T reduce_sum(int64_t count, F&& f) {
  Packet<T> total = set(T(0));
  for_lanes<T>(count, [&](int64_t i, int64_t n) { total = add(total, f(i, n)); });
  return sum_lanes<T>(total);
}

}  // namespace engine::simd
