#include <cmath>

#include "engine/ops/pointwise_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

// y (+)= f(a, b), kVec neighbouring elements a thread.
template <int kVec, class A, class B, class Y, class F>
__global__ void __launch_bounds__(kEachThreads)
    flat_kernel(const A* a, const B* b, Y* y, int64_t packs, bool add, F f) {
  using Packed = Pack<Wide<A>, kVec>;
  const int64_t pack = int64_t{blockIdx.x} * kEachThreads + threadIdx.x;
  if (pack >= packs) return;
  const int64_t at = pack * kVec;
  Packed x = Packed::load(a + at);
  const Packed other = Packed::load(b + at);
#pragma unroll
  for (int i = 0; i < kVec; ++i) x.v[i] = f(x.v[i], other.v[i]);
  x.put(y + at, add);
}

template <class A, class B, class Y, class F>
void launch_flat(Cuda on, const A* a, const B* b, Y* y, int64_t count, GradWrite write, F f) {
  if (count == 0) return;
  const bool add = write == GradWrite::kAccumulate;
  if (packable<A>(count, a, b, y)) {
    const int64_t packs = count / kPack<A>;
    launch(on, blocks_for(packs, kEachThreads), kEachThreads, flat_kernel<kPack<A>, A, B, Y, F>, a,
           b, y, packs, add, f);
  } else {
    launch(on, blocks_for(count, kEachThreads), kEachThreads, flat_kernel<1, A, B, Y, F>, a, b, y,
           count, add, f);
  }
}

// What becomes of one element; ops of one operand ignore the second.
template <class T>
struct Sum {
  __device__ T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct Scaled {
  T factor;
  __device__ T operator()(T a, T) const { return a * factor; }
};
template <class T>
struct Product {
  __device__ T operator()(T a, T b) const { return a * b; }
};
template <class T>
struct Relu {
  __device__ T operator()(T a, T) const { return a < T(0) ? T(0) : a; }  // NaN stays
};
template <class T>
struct ReluSlope {
  __device__ T operator()(T y, T dy) const { return y > T(0) ? dy : T(0); }
};
template <class T>
struct Tanh {
  __device__ T operator()(T a, T) const { return ::tanh(a); }
};
template <class T>
struct TanhSlope {
  __device__ T operator()(T y, T dy) const { return dy * (T(1) - y * y); }
};
template <class T>
struct Rounded {
  __device__ T operator()(T a, T) const {
    return static_cast<T>(to_float(to_bf16(static_cast<float>(a))));
  }
};

}  // namespace

template <class T>
void add_forward(Cuda on, const T* x, const T* other, T* y, int64_t count) {
  launch_flat(on, x, other, y, count, GradWrite::kOverwrite, Sum<Wide<T>>{});
}
template <class T>
void put_scaled(Cuda on, const T* x, Wide<T> factor, T* y, int64_t count, GradWrite write) {
  launch_flat(on, x, x, y, count, write, Scaled<Wide<T>>{factor});
}
template <class T>
void put_product(Cuda on, const T* a, const Wide<T>* b, T* y, int64_t count, GradWrite write) {
  launch_flat(on, a, b, y, count, write, Product<Wide<T>>{});
}
void put_product(Cuda on, const bf16* a, const bf16* b, float* y, int64_t count, GradWrite write) {
  launch_flat(on, a, b, y, count, write, Product<float>{});
}
template <class T>
void relu_forward(Cuda on, const T* x, T* y, int64_t count) {
  launch_flat(on, x, x, y, count, GradWrite::kOverwrite, Relu<Wide<T>>{});
}
template <class T>
void relu_backward(Cuda on, const T* y, const T* dy, T* dx, int64_t count, GradWrite write) {
  launch_flat(on, y, dy, dx, count, write, ReluSlope<Wide<T>>{});
}
template <class T>
void tanh_forward(Cuda on, const T* x, T* y, int64_t count) {
  launch_flat(on, x, x, y, count, GradWrite::kOverwrite, Tanh<Wide<T>>{});
}
template <class T>
void tanh_backward(Cuda on, const T* y, const T* dy, T* dx, int64_t count, GradWrite write) {
  launch_flat(on, y, dy, dx, count, write, TanhSlope<Wide<T>>{});
}
template <class T>
void put_bf16(Cuda on, const T* x, T* y, int64_t count, GradWrite write) {
  launch_flat(on, x, x, y, count, write, Rounded<T>{});
}

template void add_forward(Cuda, const float*, const float*, float*, int64_t);
template void add_forward(Cuda, const double*, const double*, double*, int64_t);
template void add_forward(Cuda, const bf16*, const bf16*, bf16*, int64_t);
template void put_scaled(Cuda, const float*, float, float*, int64_t, GradWrite);
template void put_scaled(Cuda, const double*, double, double*, int64_t, GradWrite);
template void put_scaled(Cuda, const bf16*, float, bf16*, int64_t, GradWrite);
template void put_product(Cuda, const float*, const float*, float*, int64_t, GradWrite);
template void put_product(Cuda, const double*, const double*, double*, int64_t, GradWrite);
template void put_product(Cuda, const bf16*, const float*, bf16*, int64_t, GradWrite);
template void put_bf16(Cuda, const float*, float*, int64_t, GradWrite);
template void put_bf16(Cuda, const double*, double*, int64_t, GradWrite);
template void relu_forward(Cuda, const float*, float*, int64_t);
template void relu_forward(Cuda, const double*, double*, int64_t);
template void relu_forward(Cuda, const bf16*, bf16*, int64_t);
template void relu_backward(Cuda, const float*, const float*, float*, int64_t, GradWrite);
template void relu_backward(Cuda, const double*, const double*, double*, int64_t, GradWrite);
template void relu_backward(Cuda, const bf16*, const bf16*, bf16*, int64_t, GradWrite);
template void tanh_forward(Cuda, const float*, float*, int64_t);
template void tanh_forward(Cuda, const double*, double*, int64_t);
template void tanh_forward(Cuda, const bf16*, bf16*, int64_t);
template void tanh_backward(Cuda, const float*, const float*, float*, int64_t, GradWrite);
template void tanh_backward(Cuda, const double*, const double*, double*, int64_t, GradWrite);
template void tanh_backward(Cuda, const bf16*, const bf16*, bf16*, int64_t, GradWrite);

}  // namespace engine::kernels
