#include <cmath>

#include "engine/core/cuda_check.h"
#include "engine/core/cuda_workspace.h"
#include "engine/ops/layer_norm_kernels.h"
#include "engine/ops/warp.cuh"

namespace engine::kernels {
namespace {

constexpr int kLongThreads = kBlockWarps * kWarp;

// Mean and reciprocal deviation of the row this team owns, and where they are kept.
template <class T>
__device__ T finish_stats(T mean, T var, double eps, int64_t row, T* stats) {
  const T rstd = T(1) / sqrt(var + static_cast<T>(eps));
  if (threadIdx.x == 0) {
    stats[2 * row] = mean;
    stats[2 * row + 1] = rstd;
  }
  return rstd;
}

template <class Layout, class T>
__global__ void __launch_bounds__(Layout::kThreads)
    forward_kernel(const T* x, const Wide<T>* scale, const Wide<T>* bias, T* y, Wide<T>* stats,
                   RowsCols size, double eps) {
  using Packed = typename Layout::Packed;
  using W = Wide<T>;
  const int64_t row = Layout::row();
  if (row >= size.rows) return;  // the whole team leaves together
  const int64_t base = row * size.cols;
  const W share = W(1) / static_cast<W>(size.cols);

  Packed in[Layout::kSteps];
  W sum = 0;
  Layout::each(size.cols, [&](int step, int64_t c) {
    in[step] = Packed::load(x + base + c);
    for (const W value : in[step].v) sum += value;
  });
  const W mean = share * team_sum<Layout::kWarps>(sum);
  W squares = 0;
  Layout::each(size.cols, [&](int step, int64_t) {
    for (W& value : in[step].v) {
      value -= mean;
      squares += value * value;
    }
  });
  const W var = share * team_sum<Layout::kWarps>(squares);
  const W rstd = finish_stats(mean, var, eps, row, stats);
  Layout::each(size.cols, [&](int step, int64_t c) {
    const Packed w = Packed::load(scale + c), b = Packed::load(bias + c);
    for (int i = 0; i < Layout::kVec; ++i) {
      in[step].v[i] = in[step].v[i] * rstd * w.v[i] + b.v[i];
    }
    in[step].store(y + base + c);
  });
}

// One block a row, read again in each pass.
template <class T>
__global__ void __launch_bounds__(kLongThreads)
    long_forward_kernel(const T* x, const Wide<T>* scale, const Wide<T>* bias, T* y, Wide<T>* stats,
                        int64_t cols, double eps) {
  using W = Wide<T>;
  const int64_t row = blockIdx.x, base = row * cols;
  const W share = W(1) / static_cast<W>(cols);
  W sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) sum += wide(x[base + c]);
  const W mean = share * team_sum<kBlockWarps>(sum);
  W squares = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) {
    const W d = wide(x[base + c]) - mean;
    squares += d * d;
  }
  const W var = share * team_sum<kBlockWarps>(squares);
  const W rstd = finish_stats(mean, var, eps, row, stats);
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) {
    const W norm = (wide(x[base + c]) - mean) * rstd;
    Pack<W, 1>{norm * scale[c] + bias[c]}.store(y + base + c);
  }
}

template <class Layout, class T>
__global__ void __launch_bounds__(Layout::kThreads)
    backward_input_kernel(const T* x, const Wide<T>* scale, const Wide<T>* stats, const T* dy,
                          T* dx, RowsCols size, bool add) {
  using Packed = typename Layout::Packed;
  using W = Wide<T>;
  const int64_t row = Layout::row();
  if (row >= size.rows) return;
  const int64_t base = row * size.cols;
  const W share = W(1) / static_cast<W>(size.cols);
  const W mean = stats[2 * row], rstd = stats[2 * row + 1];

  Packed norm[Layout::kSteps], g[Layout::kSteps];
  W sum_g = 0, sum_gn = 0;
  Layout::each(size.cols, [&](int step, int64_t c) {
    norm[step] = Packed::load(x + base + c);
    g[step] = Packed::load(dy + base + c);
    const Packed w = Packed::load(scale + c);
    for (int i = 0; i < Layout::kVec; ++i) {
      norm[step].v[i] = (norm[step].v[i] - mean) * rstd;
      g[step].v[i] *= w.v[i];
      sum_g += g[step].v[i];
      sum_gn += g[step].v[i] * norm[step].v[i];
    }
  });
  const W mean_g = share * team_sum<Layout::kWarps>(sum_g);
  const W mean_gn = share * team_sum<Layout::kWarps>(sum_gn);
  Layout::each(size.cols, [&](int step, int64_t c) {
    for (int i = 0; i < Layout::kVec; ++i) {
      g[step].v[i] = rstd * (g[step].v[i] - mean_g - norm[step].v[i] * mean_gn);
    }
    g[step].put(dx + base + c, add);
  });
}

template <class T>
__global__ void __launch_bounds__(kLongThreads)
    long_backward_input_kernel(const T* x, const Wide<T>* scale, const Wide<T>* stats, const T* dy,
                               T* dx, int64_t cols, bool add) {
  using W = Wide<T>;
  const int64_t row = blockIdx.x, base = row * cols;
  const W share = W(1) / static_cast<W>(cols);
  const W mean = stats[2 * row], rstd = stats[2 * row + 1];
  W sum_g = 0, sum_gn = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) {
    const W g = wide(dy[base + c]) * scale[c];
    sum_g += g;
    sum_gn += g * ((wide(x[base + c]) - mean) * rstd);
  }
  const W mean_g = share * team_sum<kBlockWarps>(sum_g);
  const W mean_gn = share * team_sum<kBlockWarps>(sum_gn);
  for (int64_t c = threadIdx.x; c < cols; c += kLongThreads) {
    const W norm = (wide(x[base + c]) - mean) * rstd;
    const W g = rstd * (wide(dy[base + c]) * scale[c] - mean_g - norm * mean_gn);
    Pack<W, 1>{g}.put(dx + base + c, add);
  }
}

// Sums over rows: kChunks chunks of rows whatever the shape, each summed by the 8 warps of a block
// that take every eighth row; warps, then chunks, are added in order.
constexpr int64_t kChunks = 128;
constexpr int kSumWarps = 8;

// partial: (kChunks, dscale | dbias, cols). A lane has kVec neighbouring columns: of bf16 two,
// which are 4 bytes, as of f32 one.
template <int kVec, class T>
__global__ void __launch_bounds__(kWarp* kSumWarps)
    partial_sums_kernel(const T* x, const Wide<T>* stats, const T* dy, Wide<T>* partial,
                        RowsCols size) {
  using Packed = Pack<Wide<T>, kVec>;
  __shared__ Packed sums[2][kSumWarps][kWarp];
  const int64_t c = (int64_t{blockIdx.x} * kWarp + threadIdx.x) * kVec, chunk = blockIdx.y;
  Packed ds{}, db{};
  if (c < size.cols) {
    const int64_t end = size.rows * (chunk + 1) / kChunks;
    for (int64_t r = size.rows * chunk / kChunks + threadIdx.y; r < end; r += kSumWarps) {
      const Packed g = Packed::load(dy + r * size.cols + c);
      const Packed in = Packed::load(x + r * size.cols + c);
      for (int i = 0; i < kVec; ++i) {
        ds.v[i] += g.v[i] * ((in.v[i] - stats[2 * r]) * stats[2 * r + 1]);
        db.v[i] += g.v[i];
      }
    }
  }
  sums[0][threadIdx.y][threadIdx.x] = ds;
  sums[1][threadIdx.y][threadIdx.x] = db;
  __syncthreads();
  if (threadIdx.y >= 2 || c >= size.cols) return;  // warp 0 adds up dscale, warp 1 dbias
  Packed total{};
  for (int w = 0; w < kSumWarps; ++w) {
    for (int i = 0; i < kVec; ++i) total.v[i] += sums[threadIdx.y][w][threadIdx.x].v[i];
  }
  total.store(partial + (chunk * 2 + threadIdx.y) * size.cols + c);
}

// One thread a column; blockIdx.y: dscale, dbias.
template <class T>
__global__ void add_partials_kernel(const T* partial, T* dscale, T* dbias, int64_t cols) {
  const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  T total = 0;
#pragma unroll 16
  for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
    total += partial[(chunk * 2 + blockIdx.y) * cols + c];
  }
  T* sum = blockIdx.y == 0 ? dscale : dbias;
  sum[c] += total;
}

}  // namespace

template <class T>
void layer_norm_forward(Cuda on, const T* x, const Wide<T>* scale, const Wide<T>* bias, T* y,
                        Wide<T>* stats, RowsCols size, double eps) {
  if (size.rows == 0) return;  // a grid of 0 blocks is a launch error
  const bool packed = packable<Wide<T>>(size.cols, x, scale, bias, y);
  const bool done = with_row_layout<Wide<T>>(size.cols, packed, [&]<class Layout>() {
    launch(on, Layout::grid(size.rows), Layout::block(), forward_kernel<Layout, T>, x, scale, bias,
           y, stats, size, eps);
  });
  if (done) return;
  launch(on, blocks_for(size.rows, 1), kLongThreads, long_forward_kernel<T>, x, scale, bias, y,
         stats, size.cols, eps);
}

namespace {

template <class T>
void backward_input(Cuda on, const T* x, const Wide<T>* scale, const Wide<T>* stats, const T* dy,
                    T* dx, RowsCols size, GradWrite write) {
  if (size.rows == 0) return;
  const bool add = write == GradWrite::kAccumulate;
  const bool packed = packable<Wide<T>>(size.cols, x, scale, dy, dx);
  const bool done = with_row_layout<Wide<T>>(size.cols, packed, [&]<class Layout>() {
    launch(on, Layout::grid(size.rows), Layout::block(), backward_input_kernel<Layout, T>, x, scale,
           stats, dy, dx, size, add);
  });
  if (done) return;
  launch(on, blocks_for(size.rows, 1), kLongThreads, long_backward_input_kernel<T>, x, scale, stats,
         dy, dx, size.cols, add);
}

template <class T>
void backward_params(Cuda on, const T* x, const Wide<T>* stats, const T* dy, Wide<T>* dscale,
                     Wide<T>* dbias, RowsCols size) {
  using W = Wide<T>;
  if (size.rows == 0) return;
  const int64_t bytes = kChunks * 2 * size.cols * static_cast<int64_t>(sizeof(W));
  W* partial = static_cast<W*>(cuda_workspace(bytes));
  const auto sum_chunks = [&]<int kVec>() {
    const dim3 cuts(blocks_for(size.cols, kWarp * kVec), static_cast<unsigned>(kChunks));
    launch(on, cuts, dim3(kWarp, kSumWarps), partial_sums_kernel<kVec, T>, x, stats, dy, partial,
           size);
  };
  constexpr int kPair = static_cast<int>(sizeof(W) / sizeof(T));
  packable<W>(size.cols, x, dy) ? sum_chunks.template operator()<kPair>()
                                : sum_chunks.template operator()<1>();
  constexpr int kThreads = 64;  // few columns: small blocks reach more multiprocessors
  launch(on, dim3(blocks_for(size.cols, kThreads), 2), kThreads, add_partials_kernel<W>, partial,
         dscale, dbias, size.cols);
}

}  // namespace

template <class T>
void layer_norm_backward(Cuda on, const T* x, const Wide<T>* scale, const Wide<T>* stats,
                         const T* dy, RowsCols size, const LayerNormGrads<T>& to) {
  if (to.dscale != nullptr) backward_params(on, x, stats, dy, to.dscale, to.dbias, size);
  if (to.dx != nullptr) backward_input(on, x, scale, stats, dy, to.dx, size, to.write);
}

template void layer_norm_forward(Cuda, const float*, const float*, const float*, float*, float*,
                                 RowsCols, double);
template void layer_norm_forward(Cuda, const double*, const double*, const double*, double*,
                                 double*, RowsCols, double);
template void layer_norm_forward(Cuda, const bf16*, const float*, const float*, bf16*, float*,
                                 RowsCols, double);
template void layer_norm_backward(Cuda, const float*, const float*, const float*, const float*,
                                  RowsCols, const LayerNormGrads<float>&);
template void layer_norm_backward(Cuda, const double*, const double*, const double*, const double*,
                                  RowsCols, const LayerNormGrads<double>&);
template void layer_norm_backward(Cuda, const bf16*, const float*, const float*, const bf16*,
                                  RowsCols, const LayerNormGrads<bf16>&);

}  // namespace engine::kernels
