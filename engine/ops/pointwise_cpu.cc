#include <cmath>

#include "engine/core/parallel.h"
#include "engine/core/precision.h"
#include "engine/core/simd.h"
#include "engine/ops/pointwise_kernels.h"

namespace engine::kernels {
namespace {

constexpr int64_t kGrain = int64_t{1} << 14;  // a multiple of every register's lanes

// Calls f(i, n) for all registers of a flat array, in parallel.
template <class T, class F>
void for_all_lanes(int64_t count, F&& f) {
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    simd::for_lanes<T>(end - begin, [&](int64_t i, int64_t n) { f(begin + i, n); });
  });
}

}  // namespace

template <class T>
void add_forward(Cpu, const T* x, const T* other, T* y, int64_t count) {
  for_all_lanes<T>(count, [=](int64_t i, int64_t n) {
    simd::store_n(y + i, simd::add(simd::load_n(x + i, n), simd::load_n(other + i, n)), n);
  });
}

template <class T>
void put_scaled(Cpu, const T* x, T factor, T* y, int64_t count, GradWrite write) {
  for_all_lanes<T>(count, [=](int64_t i, int64_t n) {
    simd::put_n(y + i, simd::mul(simd::load_n(x + i, n), simd::set(factor)), n,
                write == GradWrite::kAccumulate);
  });
}

template <class T>
void put_product(Cpu, const T* a, const T* b, T* y, int64_t count, GradWrite write) {
  for_all_lanes<T>(count, [=](int64_t i, int64_t n) {
    simd::put_n(y + i, simd::mul(simd::load_n(a + i, n), simd::load_n(b + i, n)), n,
                write == GradWrite::kAccumulate);
  });
}

template <class T>
void relu_forward(Cpu, const T* x, T* y, int64_t count) {
  for_all_lanes<T>(count, [=](int64_t i, int64_t n) {
    simd::store_n(y + i, simd::relu<T>(simd::load_n(x + i, n)), n);
  });
}

template <class T>
void relu_backward(Cpu, const T* y, const T* dy, T* dx, int64_t count, GradWrite write) {
  for_all_lanes<T>(count, [=](int64_t i, int64_t n) {
    simd::put_n(dx + i, simd::where_positive<T>(simd::load_n(y + i, n), simd::load_n(dy + i, n)), n,
                write == GradWrite::kAccumulate);
  });
}

template <class T>
void tanh_forward(Cpu, const T* x, T* y, int64_t count) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = std::tanh(x[i]);
  });
}

template <class T>
void tanh_backward(Cpu, const T* y, const T* dy, T* dx, int64_t count, GradWrite write) {
  for_all_lanes<T>(count, [=](int64_t i, int64_t n) {
    const auto v = simd::load_n(y + i, n);
    const auto slope = simd::sub(simd::set(T(1)), simd::mul(v, v));
    simd::put_n(dx + i, simd::mul(simd::load_n(dy + i, n), slope), n,
                write == GradWrite::kAccumulate);
  });
}

template <class T>
void put_bf16(Cpu, const T* x, T* y, int64_t count, GradWrite write) {
  const bool add = write == GradWrite::kAccumulate;
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T rounded = static_cast<T>(to_float(to_bf16(static_cast<float>(x[i]))));
      y[i] = add ? y[i] + rounded : rounded;
    }
  });
}

template void add_forward(Cpu, const float*, const float*, float*, int64_t);
template void add_forward(Cpu, const double*, const double*, double*, int64_t);
template void put_scaled(Cpu, const float*, float, float*, int64_t, GradWrite);
template void put_scaled(Cpu, const double*, double, double*, int64_t, GradWrite);
template void put_product(Cpu, const float*, const float*, float*, int64_t, GradWrite);
template void put_product(Cpu, const double*, const double*, double*, int64_t, GradWrite);
template void put_bf16(Cpu, const float*, float*, int64_t, GradWrite);
template void put_bf16(Cpu, const double*, double*, int64_t, GradWrite);
template void relu_forward(Cpu, const float*, float*, int64_t);
template void relu_forward(Cpu, const double*, double*, int64_t);
template void relu_backward(Cpu, const float*, const float*, float*, int64_t, GradWrite);
template void relu_backward(Cpu, const double*, const double*, double*, int64_t, GradWrite);
template void tanh_forward(Cpu, const float*, float*, int64_t);
template void tanh_forward(Cpu, const double*, double*, int64_t);
template void tanh_backward(Cpu, const float*, const float*, float*, int64_t, GradWrite);
template void tanh_backward(Cpu, const double*, const double*, double*, int64_t, GradWrite);

}  // namespace engine::kernels
