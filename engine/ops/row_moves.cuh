#pragma once

#include "engine/ops/warp.cuh"

// Rows that are copied, scaled or added from one place to another, and sums over rows: what the
// ops on tokens have in common. CUDA sources only.
namespace engine::kernels {

inline constexpr int kMoveRows = 8;   // rows of a block, a warp each
inline constexpr int kMoveAhead = 4;  // packs that a lane reads before it writes the first

// Calls launch.operator()<kVec>(): 16-byte accesses where `packed`, else single elements.
template <class T, class Launch>
void with_pack(bool packed, Launch&& launch) {
  packed ? launch.template operator()<kPack<T>>() : launch.template operator()<1>();
}

// One warp a row: put(column, load(column)) for this lane's packs of the row. What load() reads may
// be read before earlier packs are put, so the two must not overlap within a row.
template <int kVec, class Load, class Put>
__device__ void each_pack(int64_t cols, const Load& load, const Put& put) {
  constexpr int64_t kStep = kWarp * kVec;
  for (int64_t first = int64_t{threadIdx.x} * kVec; first < cols; first += kMoveAhead * kStep) {
    decltype(load(first)) packs[kMoveAhead];
#pragma unroll
    for (int i = 0; i < kMoveAhead; ++i) {
      if (first + i * kStep < cols) packs[i] = load(first + i * kStep);
    }
#pragma unroll
    for (int i = 0; i < kMoveAhead; ++i) {
      if (first + i * kStep < cols) put(first + i * kStep, packs[i]);
    }
  }
}

inline __device__ int64_t moved_row() { return int64_t{blockIdx.x} * kMoveRows + threadIdx.y; }
inline dim3 move_grid(int64_t rows) { return dim3(blocks_for(rows, kMoveRows)); }
inline dim3 move_block() { return dim3(kWarp, kMoveRows); }

// to (+)= factor * from; from null: zeros.
template <class T>
struct RowMove {
  const T* from;
  T* to;
  Wide<T> factor;
};

template <int kVec, class T, class Place>
__global__ void __launch_bounds__(kWarp* kMoveRows)
    move_rows_kernel(RowsCols size, bool add, Place place) {
  const int64_t row = moved_row();
  if (row >= size.rows) return;
  using Packed = Pack<Wide<T>, kVec>;
  const RowMove<T> move = place(row);
  each_pack<kVec>(
      size.cols,
      [&](int64_t c) {
        Packed pack{};
        if (move.from == nullptr) return pack;
        pack = Packed::load(move.from + c);
        for (Wide<T>& value : pack.v) value *= move.factor;
        return pack;
      },
      [&](int64_t c, const Packed& pack) { pack.put(move.to + c, add); });
}

// Does place(row), a RowMove, for rows [0, size.rows). `packed`: every row that place names starts
// on 16 bytes and has whole packs (packable()).
template <class T, class Place>
void launch_row_moves(Cuda on, RowsCols size, bool packed, GradWrite write, const Place& place) {
  if (size.rows <= 0 || size.cols <= 0) return;
  with_pack<T>(packed, [&]<int kVec>() {
    launch(on, move_grid(size.rows), move_block(), move_rows_kernel<kVec, T, Place>, size,
           write == GradWrite::kAccumulate, place);
  });
}

// y[b, c] (+)= scale * sum over r in [0, rows) of x[b * batch_stride + r * row_stride + c]
struct ColumnSums {
  int64_t batch, rows, cols, batch_stride, row_stride;
};

inline constexpr int kSumWarps = 8;  // of a block: every eighth row each, then added in order

template <int kVec, class T, class To>
__global__ void __launch_bounds__(kWarp* kSumWarps)
    column_sums_kernel(const T* x, To* y, ColumnSums s, Wide<T> scale, bool add) {
  using Packed = Pack<Wide<T>, kVec>;
  __shared__ Packed parts[kSumWarps][kWarp];
  const int64_t cuts = (s.cols + kWarp * kVec - 1) / (kWarp * kVec);
  const int64_t b = blockIdx.x / cuts;
  const int64_t c = (blockIdx.x % cuts * kWarp + threadIdx.x) * kVec;
  Packed sum{};
  if (c < s.cols) {
#pragma unroll 4
    for (int64_t r = threadIdx.y; r < s.rows; r += kSumWarps) {
      const Packed row = Packed::load(x + b * s.batch_stride + r * s.row_stride + c);
      for (int i = 0; i < kVec; ++i) sum.v[i] += row.v[i];
    }
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= s.cols) return;
  for (int w = 1; w < kSumWarps; ++w) {
    for (int i = 0; i < kVec; ++i) sum.v[i] += parts[w][threadIdx.x].v[i];
  }
  for (Wide<T>& value : sum.v) value *= scale;
  sum.put(y + b * s.cols + c, add);
}

// To: T, or Wide<T> for the gradients of parameters.
template <class T, class To>
void launch_column_sums(Cuda on, const T* x, To* y, const ColumnSums& s, Wide<T> scale,
                        GradWrite write) {
  if (s.batch <= 0 || s.cols <= 0) return;
  const bool packed =
      packable<T>(s.cols, x, y) && s.batch_stride % kPack<T> == 0 && s.row_stride % kPack<T> == 0;
  with_pack<T>(packed, [&]<int kVec>() {
    const int64_t cuts = blocks_for(s.cols, kWarp * kVec);
    launch(on, blocks_for(s.batch * cuts, 1), dim3(kWarp, kSumWarps),
           column_sums_kernel<kVec, T, To>, x, y, s, scale, write == GradWrite::kAccumulate);
  });
}

}  // namespace engine::kernels
