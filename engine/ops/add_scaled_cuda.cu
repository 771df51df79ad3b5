#include "engine/ops/add_scaled_kernels.h"
#include "engine/ops/row_moves.cuh"

namespace engine::kernels {
namespace {

// One image's elements in `cuts` blocks, a pack a thread. to (+)= x + factor * branch; x may be
// null, which is 0. With x, a branch of factor 0 is not read.
template <int kVec, class T>
__global__ void __launch_bounds__(kEachThreads)
    scaled_kernel(const T* x, const T* branch, const float* factors, T* to, int64_t size,
                  unsigned cuts, bool add) {
  using Packed = Pack<Wide<T>, kVec>;
  const int64_t n = blockIdx.x / cuts;
  const int64_t i = (int64_t{blockIdx.x % cuts} * kEachThreads + threadIdx.x) * kVec;
  if (i >= size) return;
  const int64_t at = n * size + i;
  const Wide<T> factor = factors[n];
  Packed out{};
  if (x != nullptr) out = Packed::load(x + at);
  if (x == nullptr || factor != 0) {
    const Packed scaled = Packed::load(branch + at);
    for (int e = 0; e < kVec; ++e) out.v[e] += factor * scaled.v[e];
  }
  out.put(to + at, add);
}

template <class T>
void launch_scaled(Cuda on, const T* x, const T* branch, const float* factors, T* to,
                   int64_t images, int64_t size, GradWrite write) {
  if (images == 0 || size == 0) return;
  with_pack<T>(packable<T>(size, x, branch, to), [&]<int kVec>() {
    const unsigned cuts = blocks_for(size, kEachThreads * kVec);
    launch(on, blocks_for(images * cuts, 1), kEachThreads, scaled_kernel<kVec, T>, x, branch,
           factors, to, size, cuts, write == GradWrite::kAccumulate);
  });
}

}  // namespace

template <class T>
void add_scaled(Cuda on, const T* x, const T* branch, const float* factors, T* y, int64_t images,
                int64_t size) {
  launch_scaled(on, x, branch, factors, y, images, size, GradWrite::kOverwrite);
}

template <class T>
void add_scaled_backward(Cuda on, const T* dy, const float* factors, T* d, int64_t images,
                         int64_t size, GradWrite write) {
  launch_scaled<T>(on, nullptr, dy, factors, d, images, size, write);
}

template void add_scaled(Cuda, const float*, const float*, const float*, float*, int64_t, int64_t);
template void add_scaled(Cuda, const double*, const double*, const float*, double*, int64_t,
                         int64_t);
template void add_scaled(Cuda, const bf16*, const bf16*, const float*, bf16*, int64_t, int64_t);
template void add_scaled_backward(Cuda, const float*, const float*, float*, int64_t, int64_t,
                                  GradWrite);
template void add_scaled_backward(Cuda, const double*, const float*, double*, int64_t, int64_t,
                                  GradWrite);
template void add_scaled_backward(Cuda, const bf16*, const float*, bf16*, int64_t, int64_t,
                                  GradWrite);

}  // namespace engine::kernels
