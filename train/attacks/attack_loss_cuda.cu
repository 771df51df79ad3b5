#include "engine/core/cuda_workspace.h"
#include "engine/ops/warp.cuh"
#include "train/attacks/attack_loss_kernels.h"

namespace train::kernels {
namespace {

using engine::kernels::kRowsPerBlock;
using engine::kernels::kWarp;

// As ratio_of(), by a warp. All lanes take what lane 0 found, so that NaN cannot divide them.
template <class T>
__device__ Ratio warp_ratio(const T* z, int64_t classes, int64_t label, int64_t target) {
  int64_t first[4] = {};
  for (int64_t k = 0; k < 4 && k < classes; ++k) {
    int64_t best = -1;
    for (int64_t i = threadIdx.x; i < classes; i += kWarp) {
      bool taken = false;
      for (int64_t earlier = 0; earlier < k; ++earlier) taken |= first[earlier] == i;
      if (!taken && (best < 0 || z[i] > z[best])) best = i;
    }
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const int64_t other = __shfl_xor_sync(0xffffffffu, best, step);
      if (other < 0) continue;
      if (best < 0 || z[other] > z[best] || (z[other] == z[best] && other < best)) best = other;
    }
    first[k] = __shfl_sync(0xffffffffu, best, 0);
  }
  return ratio_from(first, label, target);
}

// put(row, z, ratio) once a row, a warp a row.
template <class T, class Put>
__global__ void __launch_bounds__(kWarp* kRowsPerBlock)
    ratio_kernel(const T* logits, const int32_t* labels, const int32_t* targets, RowsCols size,
                 Put put) {
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= size.rows) return;  // the whole warp leaves together
  const T* z = logits + row * size.cols;
  const Ratio r = warp_ratio(z, size.cols, labels[row], targets != nullptr ? targets[row] : -1);
  if (threadIdx.x == 0) put(row, z, r);
}

template <class T, class Put>
void launch_ratios(Cuda on, const T* logits, const int32_t* labels, const int32_t* targets,
                   RowsCols size, const Put& put) {
  if (size.rows == 0) return;  // a grid of 0 blocks is a launch error
  engine::launch(on, engine::blocks_for(size.rows, kRowsPerBlock), dim3(kWarp, kRowsPerBlock),
                 ratio_kernel<T, Put>, logits, labels, targets, size, put);
}

}  // namespace

template <class T>
void dlr_forward(Cuda on, const T* logits, const int32_t* labels, const int32_t* targets,
                 RowsCols size, T* loss) {
  auto* quotients =
      static_cast<double*>(engine::cuda_workspace(size.rows * int64_t{sizeof(double)}));
  launch_ratios(on, logits, labels, targets, size,
                [=] __device__(int64_t row, const T* z, const Ratio& r) {
                  quotients[row] = r.above(z) / r.below(z);
                });
  engine::launch_sums<double>(
      on, 1, size.rows, [=] __device__(int64_t, int64_t row) -> double { return quotients[row]; },
      [=] __device__(int64_t, double sum) { loss[0] = static_cast<T>(sum); });
}

template <class T>
void dlr_backward(Cuda on, const T* logits, const int32_t* labels, const int32_t* targets,
                  RowsCols size, const T* dy, T* dlogits) {
  launch_ratios(on, logits, labels, targets, size,
                [=] __device__(int64_t row, const T* z, const Ratio& r) {
                  add_dlr_slopes(z, r, static_cast<double>(dy[0]), dlogits + row * size.cols);
                });
}

template void dlr_forward(Cuda, const float*, const int32_t*, const int32_t*, RowsCols, float*);
template void dlr_forward(Cuda, const double*, const int32_t*, const int32_t*, RowsCols, double*);
template void dlr_backward(Cuda, const float*, const int32_t*, const int32_t*, RowsCols,
                           const float*, float*);
template void dlr_backward(Cuda, const double*, const int32_t*, const int32_t*, RowsCols,
                           const double*, double*);

}  // namespace train::kernels
