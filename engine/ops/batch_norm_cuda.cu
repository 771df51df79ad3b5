#include <cmath>

#include "engine/ops/batch_norm_kernels.h"
#include "engine/ops/columns.cuh"

namespace engine::kernels {
namespace {

constexpr int kTogether = 8;  // rows that a thread holds in registers around their own mean

// Mean and sum of squares around it of `count` rows.
template <class T>
struct Moments {
  T mean, m2;
  // <- merged with those of `more` further rows, as on the CPU.
  __device__ void merge(int64_t count, const Moments& other, int64_t more) {
    if (more == 0) return;
    const T share = static_cast<T>(more) / static_cast<T>(count + more);
    const T shift = other.mean - mean;
    mean = fused(shift, share, mean);
    m2 += fused(shift * shift, static_cast<T>(count) * share, other.m2);
  }
};

// The rows of a range that lane `first` of `step` takes.
__device__ int64_t rows_of_lane(int64_t rows, int64_t first, int64_t step) {
  return rows > first ? (rows - first + step - 1) / step : 0;
}

// The moments of up to kTogether rows, read once.
template <class T, int kVec>
__device__ void moments_of(const T* x, int64_t stride, int count, Moments<T> (&to)[kVec]) {
  Pack<T, kVec> in[kTogether];
#pragma unroll
  for (int i = 0; i < kTogether; ++i) {
    if (i < count) in[i] = Pack<T, kVec>::load(x + i * stride);
  }
  const T share = T(1) / static_cast<T>(count);
#pragma unroll
  for (int j = 0; j < kVec; ++j) {
    T sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (i < count) sum += in[i].v[j];
    }
    const T mean = sum * share;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const T d = in[i].v[j] - mean;
      if (i < count) squares = fused(d, d, squares);
    }
    to[j] = {mean, squares};
  }
}

// partial (chunks, mean | m2, cols).
template <class T, int kVec>
__global__ void __launch_bounds__(kColumnThreads)
    moments_kernel(const T* x, T* partial, RowsCols size) {
  __shared__ T means[kColumnThreads * kVec], squares[kColumnThreads * kVec];
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kVec;
  const int width = static_cast<int>(blockDim.x) * kVec;
  const ChunkRows range = chunk_rows(size.rows, gridDim.y, blockIdx.y);
  const int64_t mine = rows_of_lane(range.count(), threadIdx.y, blockDim.y);
  const int64_t stride = blockDim.y * size.cols;
  Moments<T> all[kVec] = {};
  if (column < size.cols) {
    const T* from = x + (range.begin + threadIdx.y) * size.cols + column;
    for (int64_t r = 0; r < mine; r += kTogether) {
      const int count = static_cast<int>(min(int64_t{kTogether}, mine - r));
      Moments<T> here[kVec];
      moments_of(from + r * stride, stride, count, here);
      for (int j = 0; j < kVec; ++j) all[j].merge(r, here[j], count);
    }
  }
  for (int j = 0; j < kVec; ++j) {
    const int at = static_cast<int>(threadIdx.y) * width + static_cast<int>(threadIdx.x) * kVec + j;
    means[at] = all[j].mean;
    squares[at] = all[j].m2;
  }
  __syncthreads();
  const int c = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const int64_t first = int64_t{blockIdx.x} * width;
  if (c >= width || first + c >= size.cols) return;
  Moments<T> total{means[c], squares[c]};
  int64_t rows = rows_of_lane(range.count(), 0, blockDim.y);
  for (int y = 1; y < static_cast<int>(blockDim.y); ++y) {
    const int64_t more = rows_of_lane(range.count(), y, blockDim.y);
    total.merge(rows, {means[y * width + c], squares[y * width + c]}, more);
    rows += more;
  }
  T* to = partial + int64_t{blockIdx.y} * 2 * size.cols + first + c;
  to[0] = total.mean;
  to[size.cols] = total.m2;
}

// The chunks' moments merged: lane y of a column takes every kFoldLanes-th chunk.
template <class T>
__global__ void __launch_bounds__(kWarp* kFoldLanes)
    merge_chunks_kernel(const T* partial, int64_t chunks, T* mean, T* var, RowsCols size) {
  __shared__ T means[kFoldLanes][kWarp], squares[kFoldLanes][kWarp];
  __shared__ int64_t counts[kFoldLanes];
  const int64_t c = int64_t{blockIdx.x} * kWarp + threadIdx.x;
  Moments<T> all{};
  int64_t rows = 0;
  for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += kFoldLanes) {
    const int64_t more = chunk_rows(size.rows, chunks, chunk).count();
    const T* from = partial + chunk * 2 * size.cols + c;
    if (c < size.cols) all.merge(rows, {from[0], from[size.cols]}, more);
    rows += more;
  }
  means[threadIdx.y][threadIdx.x] = all.mean;
  squares[threadIdx.y][threadIdx.x] = all.m2;
  if (threadIdx.x == 0) counts[threadIdx.y] = rows;
  __syncthreads();
  if (threadIdx.y != 0 || c >= size.cols) return;
  for (int y = 1; y < kFoldLanes; ++y) {
    all.merge(rows, {means[y][threadIdx.x], squares[y][threadIdx.x]}, counts[y]);
    rows += counts[y];
  }
  mean[c] = all.mean;
  var[c] = all.m2 * (T(1) / static_cast<T>(size.rows));
}

// The numbers of kVec columns.
template <class T, int kVec>
struct Columns {
  using Packed = Pack<T, kVec>;
  Packed mean, rstd, factor, bias;
  __device__ Columns(const NormColumns<T>& c, int64_t i)
      : mean(Packed::load(c.mean + i)),
        rstd(Packed::load(c.rstd + i)),
        factor(Packed::load(c.scale + i)),
        bias(Packed::load(c.bias + i)) {
    for (int j = 0; j < kVec; ++j) factor.v[j] *= rstd.v[j];
  }
  __device__ T normed(T centred, int j) const { return fused(centred, factor.v[j], bias.v[j]); }
};

template <class T, int kVec>
struct Forward {
  const T *x, *residual;
  T* y;
  NormColumns<T> columns;
  bool relu;

  struct Lane {
    Columns<T, kVec> own;
    const Forward& f;
    __device__ void row(int64_t at) const {
      auto v = Pack<T, kVec>::load(f.x + at);
      for (int j = 0; j < kVec; ++j) v.v[j] = own.normed(v.v[j] - own.mean.v[j], j);
      if (f.residual != nullptr) {
        const auto r = Pack<T, kVec>::load(f.residual + at);
        for (int j = 0; j < kVec; ++j) v.v[j] += r.v[j];
      }
      if (f.relu) {
        for (int j = 0; j < kVec; ++j) v.v[j] = v.v[j] < T(0) ? T(0) : v.v[j];  // NaN stays
      }
      v.store(f.y + at);
    }
  };
  __device__ Lane at(int64_t column) const { return {Columns<T, kVec>(columns, column), *this}; }
};

// centred = x - mean and g of one row.
template <class T, int kVec>
__device__ void load_gradient(const NormGradient<T>& from, const Columns<T, kVec>& own, int64_t at,
                              Pack<T, kVec>& centred, Pack<T, kVec>& g) {
  centred = Pack<T, kVec>::load(from.x + at);
  g = Pack<T, kVec>::load(from.dy + at);
  for (int j = 0; j < kVec; ++j) {
    centred.v[j] -= own.mean.v[j];
    if (from.relu && !(own.normed(centred.v[j], j) > T(0))) g.v[j] = T(0);
  }
}

template <class T, int kVec>
struct Sums {
  NormGradient<T> from;

  struct Lane {
    Columns<T, kVec> own;
    const Sums& f;
    __device__ void row(int64_t at, Pack<T, kVec> (&sums)[2]) const {
      Pack<T, kVec> centred, g;
      load_gradient(f.from, own, at, centred, g);
      for (int j = 0; j < kVec; ++j) {
        sums[0].v[j] += g.v[j];
        sums[1].v[j] = fused(g.v[j], centred.v[j], sums[1].v[j]);
      }
    }
  };
  __device__ Lane at(int64_t column) const {
    return {Columns<T, kVec>(from.columns, column), *this};
  }
};

template <class T, int kVec>
struct InputGradient {
  NormGradient<T> from;
  const T* sums;
  T* dx;
  bool add;

  struct Lane {
    Columns<T, kVec> own;
    Pack<T, kVec> mean_g, slope;
    const InputGradient& f;
    __device__ void row(int64_t at) const {
      Pack<T, kVec> centred, g;
      load_gradient(f.from, own, at, centred, g);
      for (int j = 0; j < kVec; ++j) {
        g.v[j] = (g.v[j] - mean_g.v[j] - centred.v[j] * slope.v[j]) * own.factor.v[j];
      }
      g.put(f.dx + at, f.add);
    }
  };
  __device__ Lane at(int64_t column) const {
    Lane lane{Columns<T, kVec>(from.columns, column), {}, {}, *this};
    if (sums == nullptr) return lane;
    const T share = T(1) / static_cast<T>(from.size.rows);
    lane.mean_g = Pack<T, kVec>::load(sums + column);
    lane.slope = Pack<T, kVec>::load(sums + from.size.cols + column);
    for (int j = 0; j < kVec; ++j) {
      lane.mean_g.v[j] *= share;
      lane.slope.v[j] *= share * (lane.own.rstd.v[j] * lane.own.rstd.v[j]);
    }
    return lane;
  }
};

template <class T>
bool packable_columns(const NormColumns<T>& c, int64_t cols) {
  return packable<T>(cols, c.mean, c.rstd, c.scale, c.bias);
}

}  // namespace

template <class T>
void column_statistics(Cuda on, const T* x, T* mean, T* var, RowsCols size) {
  if (size.cols == 0) return;
  const bool packed = packable<T>(size.cols, x);
  const int vec = packed ? kPack<T> : 1;
  const ColumnCut cut = cut_columns(size, vec, kTogether, most_sum_chunks(size.cols / vec));
  T* partial =
      static_cast<T*>(cuda_workspace(cut.chunks * 2 * size.cols * static_cast<int64_t>(sizeof(T))));
  const auto kernel = packed ? moments_kernel<T, kPack<T>> : moments_kernel<T, 1>;
  launch(on, cut.grid, cut.block, kernel, x, partial, size);
  launch(on, blocks_for(size.cols, kWarp), dim3(kWarp, kFoldLanes), merge_chunks_kernel<T>, partial,
         cut.chunks, mean, var, size);
}

template <class T>
void rstd_of(Cuda on, const T* var, T* rstd, int64_t cols, double eps) {
  launch_each(on, cols,
              [=] __device__(int64_t c) { rstd[c] = T(1) / sqrt(var[c] + static_cast<T>(eps)); });
}

template <class T>
void move_average(Cuda on, const T* from, double factor, double momentum, T* to, int64_t cols) {
  const T keep = static_cast<T>(1 - momentum), take = static_cast<T>(momentum * factor);
  launch_each(on, cols, [=] __device__(int64_t c) { to[c] = keep * to[c] + take * from[c]; });
}

template <class T>
void batch_norm_forward(Cuda on, const T* x, const NormColumns<T>& columns, const T* residual,
                        bool relu, T* y, RowsCols size) {
  if (packable<T>(size.cols, x, residual, y) && packable_columns(columns, size.cols)) {
    launch_columns<kPack<T>>(on, size, Forward<T, kPack<T>>{x, residual, y, columns, relu});
  } else {
    launch_columns<1>(on, size, Forward<T, 1>{x, residual, y, columns, relu});
  }
}

template <class T>
void batch_norm_sums(Cuda on, const NormGradient<T>& from, T* sums) {
  if (packable<T>(from.size.cols, from.x, from.dy) &&
      packable_columns(from.columns, from.size.cols)) {
    launch_column_sums<kPack<T>, 2>(on, from.size, Sums<T, kPack<T>>{from}, sums, false);
  } else {
    launch_column_sums<1, 2>(on, from.size, Sums<T, 1>{from}, sums, false);
  }
}

template <class T>
void batch_norm_input_gradient(Cuda on, const NormGradient<T>& from, const T* sums, T* dx,
                               GradWrite write) {
  const bool add = write == GradWrite::kAccumulate;
  if (packable<T>(from.size.cols, from.x, from.dy, sums, dx) &&
      packable_columns(from.columns, from.size.cols)) {
    launch_columns<kPack<T>>(on, from.size, InputGradient<T, kPack<T>>{from, sums, dx, add});
  } else {
    launch_columns<1>(on, from.size, InputGradient<T, 1>{from, sums, dx, add});
  }
}

template <class T>
void batch_norm_param_gradients(Cuda on, const T* sums, const T* rstd, T* dscale, T* dbias,
                                int64_t cols) {
  if (dscale == nullptr && dbias == nullptr) return;
  launch_each(on, cols, [=] __device__(int64_t c) {
    if (dscale != nullptr) dscale[c] += sums[cols + c] * rstd[c];
    if (dbias != nullptr) dbias[c] += sums[c];
  });
}

template void column_statistics(Cuda, const float*, float*, float*, RowsCols);
template void rstd_of(Cuda, const float*, float*, int64_t, double);
template void move_average(Cuda, const float*, double, double, float*, int64_t);
template void batch_norm_forward(Cuda, const float*, const NormColumns<float>&, const float*, bool,
                                 float*, RowsCols);
template void batch_norm_sums(Cuda, const NormGradient<float>&, float*);
template void batch_norm_input_gradient(Cuda, const NormGradient<float>&, const float*, float*,
                                        GradWrite);
template void batch_norm_param_gradients(Cuda, const float*, const float*, float*, float*, int64_t);
template void column_statistics(Cuda, const double*, double*, double*, RowsCols);
template void rstd_of(Cuda, const double*, double*, int64_t, double);
template void move_average(Cuda, const double*, double, double, double*, int64_t);
template void batch_norm_forward(Cuda, const double*, const NormColumns<double>&, const double*,
                                 bool, double*, RowsCols);
template void batch_norm_sums(Cuda, const NormGradient<double>&, double*);
template void batch_norm_input_gradient(Cuda, const NormGradient<double>&, const double*, double*,
                                        GradWrite);
template void batch_norm_param_gradients(Cuda, const double*, const double*, double*, double*,
                                         int64_t);

}  // namespace engine::kernels
