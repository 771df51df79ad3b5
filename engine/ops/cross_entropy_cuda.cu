#include <cmath>

#include "engine/ops/cross_entropy_kernels.h"
#include "engine/ops/row_moves.cuh"

namespace engine::kernels {
namespace {

// The target t[c] of one row's classes, and t[c] * v, where 0 of anything is 0 for a single label.
struct OneLabel {
  int64_t label;
  __device__ double share(int64_t c) const { return c == label ? 1.0 : 0.0; }
  __device__ double of(int64_t c, double v) const { return c == label ? v : 0.0; }
};
template <class T>
struct SoftLabels {
  const T* target;
  __device__ double share(int64_t c) const { return static_cast<double>(target[c]); }
  __device__ double of(int64_t c, double v) const { return share(c) * v; }
};

// All rows' targets.
struct Labels {
  const int32_t* labels;
  __device__ OneLabel row(int64_t r, int64_t) const { return {labels[r]}; }
};
template <class T>
struct Targets {
  const T* targets;
  __device__ SoftLabels<T> row(int64_t r, int64_t cols) const { return {targets + r * cols}; }
};

// kWarps warps of a row, in f64 as on the CPU. Each thread visits the same columns in every pass.
template <int kWarps, class T, class Target>
__device__ double softmax_row(const T* x, const Target& target, T* slope, int64_t cols) {
  constexpr int kStep = kWarps * kWarp;
  T top_x = -INFINITY;
  for (int64_t c = threadIdx.x; c < cols; c += kStep) top_x = max(top_x, x[c]);
  const double top = team_max<kWarps>(top_x);
  double sum = 0, mass = 0, along = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kStep) {
    const double v = x[c];
    sum += exp(v - top);
    mass += target.share(c);
    along += target.of(c, v);
  }
  sum = team_sum<kWarps>(sum);
  mass = team_sum<kWarps>(mass);
  along = team_sum<kWarps>(along);
  for (int64_t c = threadIdx.x; c < cols; c += kStep) {
    const double p = exp(static_cast<double>(x[c]) - top) / sum;
    slope[c] = static_cast<T>(p * mass - target.share(c));
  }
  return mass * (log(sum) + top) - along;
}

template <int kWarps, class T, class Target>
__device__ double sigmoid_row(const T* x, const Target& target, T* slope, int64_t cols) {
  double sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kWarps * kWarp) {
    const double v = x[c], e = exp(-fabs(v));
    sum += max(v, 0.0) + log1p(e) - target.of(c, v);
    slope[c] = static_cast<T>((v >= 0 ? 1 / (1 + e) : e / (1 + e)) - target.share(c));
  }
  return team_sum<kWarps>(sum);
}

template <int kWarps>
constexpr int rows_of_block() {
  return kWarps == 1 ? kRowsPerBlock : 1;
}

template <int kWarps, bool kSoftmax, class T, class Rows>
__global__ void __launch_bounds__(kWarps* kWarp* rows_of_block<kWarps>())
    loss_kernel(const T* x, Rows targets, double* row_loss, T* slope, RowsCols size) {
  const int64_t row = int64_t{blockIdx.x} * rows_of_block<kWarps>() + threadIdx.y;
  if (row >= size.rows) return;  // the whole team leaves together
  const auto target = targets.row(row, size.cols);
  const int64_t base = row * size.cols;
  const double loss = kSoftmax ? softmax_row<kWarps>(x + base, target, slope + base, size.cols)
                               : sigmoid_row<kWarps>(x + base, target, slope + base, size.cols);
  if (threadIdx.x == 0) row_loss[row] = loss;
}

constexpr int64_t kShortRow = 1024;  // classes that one warp takes

template <class T, class Rows>
void launch_losses(Cuda on, const T* x, Rows targets, double* row_loss, T* slope, RowsCols size,
                   CrossEntropy kind) {
  if (size.rows == 0) return;
  const auto with = [&]<int kWarps, bool kSoftmax>() {
    constexpr int kRows = rows_of_block<kWarps>();
    launch(on, blocks_for(size.rows, kRows), dim3(kWarps * kWarp, kRows),
           loss_kernel<kWarps, kSoftmax, T, Rows>, x, targets, row_loss, slope, size);
  };
  const bool softmax = kind == CrossEntropy::kSoftmax;
  if (size.cols <= kShortRow) {
    softmax ? with.template operator()<1, true>() : with.template operator()<1, false>();
  } else {
    softmax ? with.template operator()<kBlockWarps, true>()
            : with.template operator()<kBlockWarps, false>();
  }
}

}  // namespace

template <class T>
void cross_entropy_forward(Cuda on, const T* logits, const int32_t* labels, double* row_loss,
                           T* dlogits, RowsCols size, CrossEntropy kind) {
  launch_losses(on, logits, Labels{labels}, row_loss, dlogits, size, kind);
}

template <class T>
void soft_cross_entropy_forward(Cuda on, const T* logits, const T* targets, double* row_loss,
                                T* dlogits, RowsCols size, CrossEntropy kind) {
  launch_losses(on, logits, Targets<T>{targets}, row_loss, dlogits, size, kind);
}

template <class T>
void sum_losses(Cuda on, const double* row_loss, int64_t rows, double denominator, T* loss) {
  launch_sums<double>(
      on, 1, rows, [=] __device__(int64_t, int64_t r) { return row_loss[r]; },
      [=] __device__(int64_t, double sum) { *loss = static_cast<T>(sum / denominator); });
}

template <class T>
void cross_entropy_backward(Cuda on, const T* slope, const T* dloss, double denominator, T* dlogits,
                            RowsCols size, GradWrite write) {
  launch_row_moves<
      T>(on, size, packable<T>(size.cols, slope, dlogits), write, [=] __device__(int64_t row) {
    const double factor = static_cast<double>(*dloss) / denominator;
    return RowMove<T>{slope + row * size.cols, dlogits + row * size.cols, static_cast<T>(factor)};
  });
}

template void soft_cross_entropy_forward(Cuda, const float*, const float*, double*, float*,
                                         RowsCols, CrossEntropy);
template void soft_cross_entropy_forward(Cuda, const double*, const double*, double*, double*,
                                         RowsCols, CrossEntropy);
template void cross_entropy_forward(Cuda, const float*, const int32_t*, double*, float*, RowsCols,
                                    CrossEntropy);
template void cross_entropy_forward(Cuda, const double*, const int32_t*, double*, double*, RowsCols,
                                    CrossEntropy);
template void sum_losses(Cuda, const double*, int64_t, double, float*);
template void sum_losses(Cuda, const double*, int64_t, double, double*);
template void cross_entropy_backward(Cuda, const float*, const float*, double, float*, RowsCols,
                                     GradWrite);
template void cross_entropy_backward(Cuda, const double*, const double*, double, double*, RowsCols,
                                     GradWrite);

}  // namespace engine::kernels
