#include "engine/ops/warp.cuh"
#include "moe/prc_loss_kernels.h"
#include "nn/loss/fixed_sums.cuh"
#include "nn/loss/row_links.cuh"

namespace moe::kernels {
namespace {

using engine::block_sum;
using engine::kEachThreads;
using engine::kernels::kWarp;

constexpr int kTermThreads = 512;

// E/N, 0 without pairs.
__device__ double factor_of(int64_t experts, const PairRows& pairs) {
  const int32_t n = *pairs.number;
  return n > 0 ? static_cast<double>(experts) / static_cast<double>(n) : 0;
}

// d (X, E), times E/N: one block for 32 experts of a slot. Every warp looks for the slot's pairs,
// 32 at a time; lane e adds up expert e's products pair by pair, then the warps' sums are added in
// order.
template <class T>
__global__ void __launch_bounds__(kEachThreads)
    slot_sums_kernel(const T* r, int64_t experts, PairRows pairs, double* d) {
  __shared__ double sums[kEachThreads / kWarp][kWarp];
  const int64_t x = blockIdx.x, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t e = int64_t{blockIdx.y} * kWarp + lane;
  double sum = 0;
  for (int64_t begin = warp * kWarp; begin < pairs.count; begin += kEachThreads) {
    const int64_t mine = begin + lane;
    unsigned found =
        __ballot_sync(0xffffffffu, mine < pairs.count && pairs.slot[mine] == x ? 1 : 0);
    for (; found != 0; found &= found - 1) {
      const int64_t n = begin + __popc((found & -found) - 1);  // the lowest bit's number
      if (e < experts) {
        sum += static_cast<double>(r[pairs.left[n] * experts + e]) *
               static_cast<double>(r[pairs.right[n] * experts + e]);
      }
    }
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || e >= experts) return;
  for (int w = 1; w < kEachThreads / kWarp; ++w) sum += sums[w][lane];
  d[x * experts + e] = factor_of(experts, pairs) * sum;
}

// From s and, in the fork form, d in out.slot_slope: terms, loss and both slopes. One block.
template <class T>
__global__ void __launch_bounds__(kTermThreads)
    terms_kernel(int64_t experts, PairRows pairs, PrcWeights lambda, PrcResult<T> out) {
  const bool paper = lambda.form == PrcForm::kPaper;
  const double factor = factor_of(experts, pairs);
  const int64_t slots = pairs.slots;
  const auto e = static_cast<double>(experts);
  const int64_t square = experts * experts, count = slots * experts;
  double diagonal = 0, off_diagonal = 0;
  for (int64_t i = threadIdx.x; i < square; i += kTermThreads) {
    const double v = out.s[i];
    if (i / experts != i % experts) {
      off_diagonal += v * v / (e * (e - 1));
      out.slope[i] = factor * 2 * lambda.off_diagonal / (e * (e - 1)) * v;
    } else {
      diagonal += paper ? (1 - v) * (1 - v) / e : 0;
      out.slope[i] = paper ? -factor * 2 * lambda.diagonal / e * (1 - v) : 0;
    }
  }
  for (int64_t i = threadIdx.x; i < count; i += kTermThreads) {
    const double gap = paper ? 0 : out.slot_slope[i] - 1;
    diagonal += gap * gap / static_cast<double>(count);
    out.slot_slope[i] = factor * 2 * lambda.diagonal * gap / static_cast<double>(count);
  }
  diagonal = block_sum<kTermThreads>(diagonal);
  off_diagonal = block_sum<kTermThreads>(off_diagonal);
  if (threadIdx.x != 0) return;
  if (factor == 0) diagonal = off_diagonal = 0;
  out.terms[0] = diagonal;
  out.terms[1] = off_diagonal;
  out.loss[0] = static_cast<T>(lambda.diagonal * diagonal + lambda.off_diagonal * off_diagonal);
}

}  // namespace

template <class T>
void prc_forward(Cuda on, const T* r, int64_t experts, const PairRows& pairs,
                 const PrcWeights& lambda, const PrcResult<T>& out) {
  nn::kernels::launch_column_sums(
      on, 1, pairs.count, experts * experts,
      [=] __device__(int64_t, int64_t n, int64_t entry) -> double {
        if (pairs.left[n] < 0) return 0;
        return static_cast<double>(r[pairs.left[n] * experts + entry / experts]) *
               static_cast<double>(r[pairs.right[n] * experts + entry % experts]);
      },
      [=] __device__(int64_t entry, double sum) {
        out.s[entry] = factor_of(experts, pairs) * sum;
      });
  if (lambda.form == PrcForm::kFork) {
    const dim3 grid(engine::blocks_for(pairs.slots, 1), engine::blocks_for(experts, kWarp));
    engine::launch(on, grid, kEachThreads, slot_sums_kernel<T>, r, experts, pairs, out.slot_slope);
  }
  engine::launch(on, 1, kTermThreads, terms_kernel<T>, experts, pairs, lambda, out);
}

// Entry i of a row's gradient, gathered from the pairs that the row is in, in their order.
template <class T>
void prc_backward(Cuda on, const T* r, int64_t rows, int64_t experts, const PairRows& pairs,
                  const double* slope, const double* slot_slope, const T* dy, T* dr) {
  const int64_t square = experts * experts;
  auto* turned = static_cast<double*>(engine::cuda_workspace(
      square * int64_t{sizeof(double)} + nn::kernels::row_links_bytes(rows, pairs.count)));
  const nn::kernels::RowLinks links =
      nn::kernels::link_rows(on, pairs.left, pairs.right, rows, pairs.count, turned + square);
  // Threads i of a warp read column i of M or of its transpose, side by side.
  engine::launch_each(on, square, [=] __device__(int64_t at) {
    turned[at] = slope[at % experts * experts + at / experts];
  });
  engine::launch_each(on, rows * experts, [=] __device__(int64_t at) {
    const int64_t row = at / experts, i = at % experts;
    const auto seed = static_cast<double>(dy[0]);
    links.each(row, [&](int64_t member) {
      const int64_t n = member / 2;
      const bool is_left = member % 2 == 0;
      const T* other = r + (is_left ? pairs.right[n] : pairs.left[n]) * experts;
      const double* m = is_left ? turned : slope;
      double g = slot_slope[pairs.slot[n] * experts + i] * static_cast<double>(other[i]);
      for (int64_t j = 0; j < experts; ++j) {
        g += m[j * experts + i] * static_cast<double>(other[j]);
      }
      dr[at] += static_cast<T>(seed * g);
    });
  });
}

template void prc_forward(Cuda, const float*, int64_t, const PairRows&, const PrcWeights&,
                          const PrcResult<float>&);
template void prc_forward(Cuda, const double*, int64_t, const PairRows&, const PrcWeights&,
                          const PrcResult<double>&);
template void prc_backward(Cuda, const float*, int64_t, int64_t, const PairRows&, const double*,
                           const double*, const float*, float*);
template void prc_backward(Cuda, const double*, int64_t, int64_t, const PairRows&, const double*,
                           const double*, const double*, double*);

}  // namespace moe::kernels
