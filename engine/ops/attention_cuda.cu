#include <cmath>
#include <type_traits>

#include "engine/core/cuda_workspace.h"
#include "engine/ops/attention_tiles.cuh"

namespace engine::kernels {
namespace {

// Softmax of rows whose scores come a tile of keys at a time: the largest score so far, in units of
// log2, and this lane's part of the sum of 2^(score - top).
template <class Tile>
struct RunningSoftmax {
  using T = typename Tile::T;
  T top[Tile::kLaneRows], sum[Tile::kLaneRows];

  __device__ RunningSoftmax() {
#pragma unroll
    for (int i = 0; i < Tile::kLaneRows; ++i) {
      top[i] = -INFINITY;
      sum[i] = 0;
    }
  }

  // s becomes its weights, relative to the new top, and `sums` too; 0 from key `keys` on.
  __device__ void fold(typename Tile::Scores& s, T scale2, int keys, typename Tile::Result& sums) {
#pragma unroll
    for (int i = 0; i < Tile::kLaneRows; ++i) {
      T highest = top[i];
#pragma unroll
      for (int j = 0; j < Tile::kLaneKeys; ++j) {
        s[i][j] = Tile::key() + 8 * j < keys ? s[i][j] * scale2 : T(-INFINITY);
        highest = max(highest, s[i][j]);
      }
      for (int step = 4; step > 0; step /= 2) {
        highest = max(highest, __shfl_xor_sync(0xffffffffu, highest, step));
      }
      const T shrink = power_of_2(top[i] - highest);
      top[i] = highest;
      sum[i] *= shrink;
#pragma unroll
      for (T& x : s[i]) {
        x = power_of_2(x - highest);
        sum[i] += x;
      }
#pragma unroll
      for (auto& pack : sums[i]) {
#pragma unroll
        for (T& x : pack.v) x *= shrink;
      }
    }
  }

  // Divides by the sums; top becomes log2 of the sum of 2^score.
  __device__ void finish(typename Tile::Result& sums) {
#pragma unroll
    for (int i = 0; i < Tile::kLaneRows; ++i) {
      for (int step = 4; step > 0; step /= 2) {
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], step);
      }
      const T inverse = T(1) / sum[i];
      top[i] += log_of_2(sum[i]);
#pragma unroll
      for (auto& pack : sums[i]) {
#pragma unroll
        for (T& x : pack.v) x *= inverse;
      }
    }
  }
};

// A block a tile of queries of one head.
template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreads)
    forward_kernel(const T* qkv, T* log_sums, T* y, AttentionRun<T> a) {
  using Packed = typename Tile::Packed;
  __shared__ Packed q[Tile::kRows * Tile::kStride];
  __shared__ Packed k[Tile::kKeys * Tile::kStride], v[Tile::kKeys * Tile::kStride];
  __shared__ Packed weights[Tile::kRows * Tile::kWeightStride];
  const AttentionPlace at = AttentionPlace::of_block(a);
  qkv += at.qkv;
  const int64_t stride = 3 * int64_t{a.width};
  const int in_tile = Tile::warp() * Tile::kWarpRows, first = at.tile * Tile::kRows + in_tile;
  Packed* mine = weights + in_tile * Tile::kWeightStride;

  Tile::template stage<Tile::kRows>(qkv, stride, at.tile * Tile::kRows, a, q);
  RunningSoftmax<Tile> softmax;
  typename Tile::Result sums{};
  for (int key = 0; key < a.tokens; key += Tile::kKeys) {
    __syncthreads();  // others may still read the last keys
    Tile::template stage<Tile::kKeys>(qkv + a.width, stride, key, a, k);
    Tile::template stage<Tile::kKeys>(qkv + 2 * a.width, stride, key, a, v);
    __syncthreads();
    if (first >= a.tokens) continue;  // the whole warp
    typename Tile::Scores s;
    Tile::dot(q + in_tile * Tile::kStride, k, a.dim, s);
    softmax.fold(s, a.scale2, a.tokens - key, sums);
    Tile::share(s, mine);
    Tile::add_product(mine, v, a.tokens - key, sums);
  }
  if (first >= a.tokens) return;
  softmax.finish(sums);
  Tile::put(sums, first, y + at.y, a.width, a, false);
#pragma unroll
  for (int i = 0; i < Tile::kLaneRows; ++i) {
    const int r = first + Tile::row() + 4 * i;
    if (Tile::key() == 0 && r < a.tokens) log_sums[at.task * a.tokens + r] = softmax.top[i];
  }
}

// delta[b,h,t] = sum_d dy y, 8 threads a row. In bf16 of dy as dp has it: what p adds to both
// cancels in dp - delta.
template <class S, class T = Wide<S>>
__global__ void __launch_bounds__(kEachThreads)
    delta_kernel(const S* y, const S* dy, T* delta, int64_t rows, AttentionRun<T> a) {
  const int64_t i = (int64_t{blockIdx.x} * kEachThreads + threadIdx.x) / 8;  // (b, t, h)
  const int64_t token = i / a.heads, at = token * a.width + i % a.heads * a.dim;
  T sum = 0;
  for (int d = threadIdx.x % 8; i < rows && d < a.dim; d += 8) {
    const T g = wide(dy[at + d]);
    sum += (a.rounded ? static_cast<T>(to_float(to_bf16(static_cast<float>(g)))) : g) *
           wide(y[at + d]);
  }
  for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (i >= rows || threadIdx.x % 8 != 0) return;
  const int64_t b = token / a.tokens, t = token % a.tokens;
  delta[(b * a.heads + i % a.heads) * a.tokens + t] = sum;
}

// p = 2^(s - log_sum), dp -> ds = p (dp - delta) / sqrt(D). The statistics are the queries': of the
// lane's keys where a block owns keys (they are the rows then), else of its rows.
template <class Tile, bool kOwnKeys, class T>
__device__ void scores_backward(const T* log_sums, const T* delta, int first, int other,
                                const AttentionRun<T>& a, typename Tile::Scores& p,
                                typename Tile::Scores& ds) {
#pragma unroll
  for (int i = 0; i < Tile::kLaneRows; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::kLaneKeys; ++j) {
      const int own_row = first + Tile::row() + 4 * i, other_row = other + Tile::key() + 8 * j;
      const bool real = own_row < a.tokens && other_row < a.tokens;
      const int query = kOwnKeys ? other_row : own_row;
      p[i][j] = real ? power_of_2(p[i][j] * a.scale2 - log_sums[query]) : T(0);
      ds[i][j] = real ? p[i][j] * (ds[i][j] - delta[query]) * a.scale : T(0);
    }
  }
}

// A block a tile of queries of one head (dq) or, where kOwnKeys, of keys (dk, dv).
template <class Tile, bool kOwnKeys, class T>
__global__ void __launch_bounds__(Tile::kThreads)
    backward_kernel(const T* qkv, const T* log_sums, const T* delta, const T* dy, T* dqkv,
                    AttentionRun<T> a) {
  using Packed = typename Tile::Packed;
  __shared__ Packed own[2][Tile::kRows * Tile::kStride], other[2][Tile::kKeys * Tile::kStride];
  __shared__ Packed weights[Tile::kRows * Tile::kWeightStride];
  const AttentionPlace at = AttentionPlace::of_block(a);
  const T *q = qkv + at.qkv, *k = q + a.width, *v = k + a.width, *g = dy + at.y;
  log_sums += at.task * a.tokens;
  delta += at.task * a.tokens;
  const int64_t stride = 3 * int64_t{a.width};
  const int in_tile = Tile::warp() * Tile::kWarpRows, first = at.tile * Tile::kRows + in_tile;
  Packed* mine = weights + in_tile * Tile::kWeightStride;

  const auto stage = [&]<int kCount>(bool keys, int from, Packed(&to)[2][kCount * Tile::kStride]) {
    Tile::template stage<kCount>(keys ? k : q, stride, from, a, to[0]);
    Tile::template stage<kCount>(keys ? v : g, keys ? stride : a.width, from, a, to[1]);
  };
  stage.template operator()<Tile::kRows>(kOwnKeys, at.tile * Tile::kRows, own);
  typename Tile::Result first_sums{}, second_sums{};  // of dq, or dk and dv
  for (int from = 0; from < a.tokens; from += Tile::kKeys) {
    __syncthreads();  // others may still read the last tile
    stage.template operator()<Tile::kKeys>(!kOwnKeys, from, other);
    __syncthreads();
    if (first >= a.tokens) continue;  // the whole warp
    typename Tile::Scores p, ds;
    Tile::dot(own[0] + in_tile * Tile::kStride, other[0], a.dim, p);
    Tile::dot(own[1] + in_tile * Tile::kStride, other[1], a.dim, ds);
    scores_backward<Tile, kOwnKeys>(log_sums, delta, first, from, a, p, ds);
    if constexpr (kOwnKeys) {
      Tile::share(p, mine);
      Tile::add_product(mine, other[1], a.tokens - from, second_sums);
      __syncwarp();
    }
    Tile::share(ds, mine);
    Tile::add_product(mine, other[0], a.tokens - from, first_sums);
  }
  if (first >= a.tokens) return;
  T* to = dqkv + at.qkv + (kOwnKeys ? a.width : 0);
  Tile::put(first_sums, first, to, stride, a, a.add);
  if constexpr (kOwnKeys) Tile::put(second_sums, first, to + a.width, stride, a, a.add);
}

// Starts kernel(args..., a) with a block for every tile of every head.
template <class Tile, class T, class... Params, class... Args>
void launch_tiles(Cuda on, AttentionSize s, AttentionRun<T> a, void (*kernel)(Params...),
                  Args... args) {
  a.tiles = (a.tokens + Tile::kRows - 1) / Tile::kRows;
  launch(on, blocks_for(s.batch * s.heads * a.tiles, 1), Tile::kThreads, kernel, args..., a);
}

}  // namespace

template <class S>
void attention_forward(Cuda on, const S* qkv, Wide<S>* saved, S* y, AttentionSize s,
                       Precision precision) {
  if constexpr (std::is_same_v<Wide<S>, float>) {
    if (precision == Precision::kBf16) return attention_bf16_forward(on, qkv, saved, y, s);
  }
  if constexpr (std::is_same_v<S, Wide<S>>) {
    const AttentionRun<S> a = attention_run<S>(s, precision, qkv, y);
    if (s.batch * s.heads * s.tokens * s.head_dim == 0) return;
    with_attention_tile<S, false>(s.head_dim, [&]<class Tile>() {
      launch_tiles<Tile>(on, s, a, forward_kernel<Tile, S>, qkv, saved, y);
    });
  }
}

template <class S>
void attention_backward(Cuda on, const S* qkv, const Wide<S>* saved, const S* y, const S* dy,
                        S* dqkv, AttentionSize s, GradWrite write, Precision precision) {
  using T = Wide<S>;
  AttentionRun<T> a = attention_run<S>(s, precision, qkv, dy, dqkv);
  a.add = write == GradWrite::kAccumulate;
  const int64_t rows = s.batch * s.heads * s.tokens;
  if (rows * s.head_dim == 0) return;
  T* delta = static_cast<T*>(cuda_workspace(rows * static_cast<int64_t>(sizeof(T))));
  launch(on, blocks_for(rows, kEachThreads / 8), kEachThreads, delta_kernel<S>, y, dy, delta, rows,
         a);
  if constexpr (std::is_same_v<T, float>) {
    if (a.rounded) return attention_bf16_backward(on, qkv, saved, delta, dy, dqkv, s, a);
  }
  if constexpr (std::is_same_v<S, T>) {
    with_attention_tile<T, true>(s.head_dim, [&]<class Tile>() {
      launch_tiles<Tile>(on, s, a, backward_kernel<Tile, false, T>, qkv, saved, delta, dy, dqkv);
      launch_tiles<Tile>(on, s, a, backward_kernel<Tile, true, T>, qkv, saved, delta, dy, dqkv);
    });
  }
}

template void attention_forward(Cuda, const float*, float*, float*, AttentionSize, Precision);
template void attention_forward(Cuda, const bf16*, float*, bf16*, AttentionSize, Precision);
template void attention_forward(Cuda, const double*, double*, double*, AttentionSize, Precision);
template void attention_backward(Cuda, const float*, const float*, const float*, const float*,
                                 float*, AttentionSize, GradWrite, Precision);
template void attention_backward(Cuda, const bf16*, const float*, const bf16*, const bf16*, bf16*,
                                 AttentionSize, GradWrite, Precision);
template void attention_backward(Cuda, const double*, const double*, const double*, const double*,
                                 double*, AttentionSize, GradWrite, Precision);

}  // namespace engine::kernels
