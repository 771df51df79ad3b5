#include "engine/core/cuda_launch.cuh"
#include "engine/core/cuda_workspace.h"
#include "moe/cnn/image_balance_kernels.h"

namespace moe::kernels {
namespace {

using engine::block_sum;
using engine::kEachThreads;

// Whether the row's first largest entry is e.
template <class T>
__device__ bool is_first(const T* row, int64_t experts, int64_t e) {
  for (int64_t i = 0; i < experts; ++i) {
    if (i < e ? row[i] >= row[e] : row[i] > row[e]) return false;
  }
  return true;
}

// A block a column: its slopes, and its part of the loss.
template <class T>
__global__ void __launch_bounds__(kEachThreads)
    column_kernel(const T* s, RowsCols size, ImageBalance kind, double* slopes, double* parts) {
  const int64_t e = blockIdx.x, images = size.rows, experts = size.cols;
  const auto n = static_cast<double>(images);
  Column c;
  for (int64_t t = threadIdx.x; t < images; t += kEachThreads) {
    const T* row = s + t * experts;
    const auto p = static_cast<double>(row[e]);
    c.first += is_first(row, experts, e) ? 1 / n : 0;
    c.mean += p / n;
    if (kind == ImageBalance::kEntropy) c.own -= p * log_of(p) / n;
  }
  c.first = block_sum<kEachThreads>(c.first);
  c.mean = block_sum<kEachThreads>(c.mean);
  c.own = block_sum<kEachThreads>(c.own);
  for (int64_t t = threadIdx.x; t < images && images > 1; t += kEachThreads) {
    const double d = static_cast<double>(s[t * experts + e]) - c.mean;
    c.deviation += d * d / (n - 1);
  }
  c.deviation = ::sqrt(block_sum<kEachThreads>(c.deviation));
  for (int64_t t = threadIdx.x; t < images; t += kEachThreads) {
    const auto p = static_cast<double>(s[t * experts + e]);
    slopes[e * images + t] = column_slope(c, p, kind, size);
  }
  if (threadIdx.x == 0) parts[e] = column_loss(c, kind, size);
}

}  // namespace

template <class T>
void image_balance_forward(Cuda on, const T* s, RowsCols size, ImageBalance kind, double* slopes,
                           T* loss) {
  const int64_t experts = size.cols;
  auto* parts = static_cast<double*>(engine::cuda_workspace(experts * int64_t{sizeof(double)}));
  engine::launch(on, engine::blocks_for(experts, 1), kEachThreads, column_kernel<T>, s, size, kind,
                 slopes, parts);
  engine::launch_each(on, 1, [=] __device__(int64_t) {
    double sum = kind == ImageBalance::kSwitch ? -1 : 0;
    for (int64_t e = 0; e < experts; ++e) sum += parts[e];
    loss[0] = static_cast<T>(sum);
  });
}

template <class T>
void image_balance_backward(Cuda on, const double* slopes, RowsCols size, const T* dy, T* ds) {
  engine::launch_each(on, size.numel(), [=] __device__(int64_t i) {
    const int64_t t = i / size.cols, e = i % size.cols;
    ds[i] += static_cast<T>(static_cast<double>(dy[0]) * slopes[e * size.rows + t]);
  });
}

// Rows are summed up first: an expert's are too many for one block.
template <class T>
void expert_spread_forward(Cuda on, const T* outputs, const ExpertRows& size, double* slope,
                           T* loss) {
  const int32_t* offset = size.offset;
  const int64_t width = size.width, experts = size.experts;
  auto* rows = static_cast<double*>(engine::cuda_workspace(size.rows * int64_t{sizeof(double)}));
  engine::launch_sums<double>(
      on, size.rows, width,
      [=] __device__(int64_t r, int64_t i) -> double {
        return static_cast<double>(outputs[r * width + i]);
      },
      [=] __device__(int64_t r, double sum) { rows[r] = sum; });
  engine::launch_sums<double>(
      on, experts, size.rows,
      [=] __device__(int64_t e, int64_t i) -> double {
        return offset[e] + i < offset[e + 1] ? rows[offset[e] + i] : 0;
      },
      [=] __device__(int64_t e, double sum) {
        const int64_t count = (offset[e + 1] - offset[e]) * width;
        slope[e] = count > 0 ? sum / static_cast<double>(count) : 0;
      });
  engine::launch_each(on, 1,
                      [=] __device__(int64_t) { loss[0] = spread_of<T>(offset, experts, slope); });
}

template <class T>
void expert_spread_backward(Cuda on, const double* slope, const ExpertRows& size, const T* dy,
                            T* doutputs) {
  const int32_t* offset = size.offset;
  const int64_t width = size.width, experts = size.experts;
  engine::launch_each(on, size.rows * width, [=] __device__(int64_t i) {
    int64_t e = 0;
    while (e < experts && offset[e + 1] <= i / width) ++e;
    if (e == experts) return;  // nobody's row
    const auto count = static_cast<double>((offset[e + 1] - offset[e]) * width);
    doutputs[i] += static_cast<T>(static_cast<double>(dy[0]) * slope[e] / count);
  });
}

template void image_balance_forward(Cuda, const float*, RowsCols, ImageBalance, double*, float*);
template void image_balance_forward(Cuda, const double*, RowsCols, ImageBalance, double*, double*);
template void image_balance_backward(Cuda, const double*, RowsCols, const float*, float*);
template void image_balance_backward(Cuda, const double*, RowsCols, const double*, double*);
template void expert_spread_forward(Cuda, const float*, const ExpertRows&, double*, float*);
template void expert_spread_forward(Cuda, const double*, const ExpertRows&, double*, double*);
template void expert_spread_backward(Cuda, const double*, const ExpertRows&, const float*, float*);
template void expert_spread_backward(Cuda, const double*, const ExpertRows&, const double*,
                                     double*);

}  // namespace moe::kernels
