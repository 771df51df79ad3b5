#include <cmath>

#include "engine/core/cuda_launch.cuh"
#include "train/optimizer_kernels.h"

// A block a piece; pieces start on 64 bytes but for their last few elements are not whole packs, so
// accesses are of single elements, neighbouring threads on neighbouring ones.
namespace train::kernels {
namespace {

using engine::Cuda;
using engine::kEachThreads;

template <class T>
__global__ void __launch_bounds__(kEachThreads)
    square_sums_kernel(const T* grad, const Piece* pieces, double* partial) {
  const Piece piece = pieces[blockIdx.x];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < piece.count; i += kEachThreads) {
    const double x = static_cast<double>(grad[piece.begin + i]);
    sum += x * x;
  }
  sum = engine::block_sum<kEachThreads>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(kEachThreads)
    update_kernel(Slabs<T> slabs, const Piece* pieces, const Update* update) {
  const Update& by = *update;
  if (!by.apply) return;
  const Piece piece = pieces[blockIdx.x];
  const T scale = static_cast<T>(by.scale), rate = static_cast<T>(by.rate);
  const T decay = piece.decay ? static_cast<T>(by.decay) : T(0);
  const T slope = piece.decay ? static_cast<T>(by.slope) : T(0);
  const T b1 = static_cast<T>(by.beta1), b2 = static_cast<T>(by.beta2);
  const T c1 = static_cast<T>(1 - by.beta1), c2 = static_cast<T>(1 - by.beta2);
  const T inv1 = static_cast<T>(by.correct1), inv2 = static_cast<T>(by.correct2);
  const T eps = static_cast<T>(by.eps), momentum = static_cast<T>(by.momentum);
  const T ahead = by.nesterov ? momentum : T(1), now = by.nesterov ? T(1) : T(0);
  const T keep = static_cast<T>(by.ema), take = static_cast<T>(1 - by.ema);
  const bool adam = by.adam;
  const int64_t end = piece.begin + piece.count;
  for (int64_t i = piece.begin + threadIdx.x; i < end; i += kEachThreads) {
    T w = slabs.value[i], m = slabs.moment1[i], u;
    const T g = scale * slabs.grad[i] + slope * w;
    if (adam) {
      T v = slabs.moment2[i];
      m = b1 * m + c1 * g;
      v = b2 * v + c2 * g * g;
      slabs.moment2[i] = v;
      u = m * inv1 / (sqrt(v * inv2) + eps);
    } else {
      m = g + momentum * m;
      u = now * g + ahead * m;
    }
    w -= rate * (u + decay * w);
    slabs.moment1[i] = m;
    slabs.value[i] = w;
    slabs.grad[i] = T(0);
    if (slabs.ema != nullptr) slabs.ema[i] = keep * slabs.ema[i] + take * w;
  }
}

__device__ bool finite(double x) { return x - x == 0; }

template <class T>
__global__ void __launch_bounds__(kEachThreads)
    clip_kernel(const double* partial, int64_t count, double clip, const T* loss, Update* update,
                double* norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kEachThreads) sum += partial[i];
  sum = engine::block_sum<kEachThreads>(sum);
  if (threadIdx.x != 0) return;
  const double length = sqrt(sum);
  *norm = length;
  update->scale = clip > 0 && length >= clip ? clip / length : 1.0;
  update->apply = finite(length) && finite(static_cast<double>(*loss));
}

}  // namespace

template <class T>
void square_sums(Cuda on, const T* grad, const Piece* pieces, int64_t count, double* partial) {
  if (count == 0) return;
  engine::launch(on, engine::blocks_for(count, 1), kEachThreads, square_sums_kernel<T>, grad,
                 pieces, partial);
}

template <class T>
void update_weights(Cuda on, const Slabs<T>& slabs, const Piece* pieces, int64_t count,
                    const Update* update) {
  if (count == 0) return;
  engine::launch(on, engine::blocks_for(count, 1), kEachThreads, update_kernel<T>, slabs, pieces,
                 update);
}

template <class T>
void clip_update(Cuda on, const double* partial, int64_t count, double clip, const T* loss,
                 Update* update, double* norm) {
  engine::launch(on, 1, kEachThreads, clip_kernel<T>, partial, count, clip, loss, update, norm);
}

template void clip_update(Cuda, const double*, int64_t, double, const float*, Update*, double*);
template void clip_update(Cuda, const double*, int64_t, double, const double*, Update*, double*);
template void square_sums(Cuda, const float*, const Piece*, int64_t, double*);
template void square_sums(Cuda, const double*, const Piece*, int64_t, double*);
template void update_weights(Cuda, const Slabs<float>&, const Piece*, int64_t, const Update*);
template void update_weights(Cuda, const Slabs<double>&, const Piece*, int64_t, const Update*);

}  // namespace train::kernels
