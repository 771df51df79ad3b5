#include <cmath>

#include "engine/ops/attention_mma.cuh"

namespace engine::kernels {
namespace {

constexpr unsigned kAll = 0xffffffffu;

// As in attention_cuda.cu, for the warp's rows g and g + 8: 4 lanes share a row.
template <class Tile>
struct RunningSoftmax {
  float top[2]{-INFINITY, -INFINITY}, sum[2]{};

  // s becomes its weights, relative to the new top, and `sums` too; 0 from key `keys` on.
  __device__ void fold(typename Tile::Scores& s, float scale2, int keys,
                       typename Tile::Result& sums) {
    float highest[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < Tile::kKeys / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] = 8 * n + 2 * Tile::t() + e % 2 < keys ? s[n][e] * scale2 : -INFINITY;
        highest[e / 2] = max(highest[e / 2], s[n][e]);
      }
    }
    float shrink[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& high = highest[half];
      for (int step = 2; step > 0; step /= 2) high = max(high, __shfl_xor_sync(kAll, high, step));
      shrink[half] = power_of_2(top[half] - high);
      top[half] = high;
      sum[half] *= shrink[half];
    }
#pragma unroll
    for (auto& four : s) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        four[e] = power_of_2(four[e] - top[e / 2]);
        sum[e / 2] += four[e];
      }
    }
#pragma unroll
    for (auto& four : sums) {
#pragma unroll
      for (int e = 0; e < 4; ++e) four[e] *= shrink[e / 2];
    }
  }

  // Divides by the sums; top becomes log2 of the sum of 2^score.
  __device__ void finish(typename Tile::Result& sums) {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& all = sum[half];
      for (int step = 2; step > 0; step /= 2) all += __shfl_xor_sync(kAll, all, step);
      inverse[half] = 1 / all;
      top[half] += log_of_2(all);
    }
#pragma unroll
    for (auto& four : sums) {
#pragma unroll
      for (int e = 0; e < 4; ++e) four[e] *= inverse[e / 2];
    }
  }
};

// A block some 16 queries a warp of one head.
template <class Tile, class S>
__global__ void __launch_bounds__(8 * kWarp)
    forward_kernel(const S* qkv, float* log_sums, S* y, AttentionRun<float> a) {
  __shared__ typename Tile::Memory k_rows, v_pairs;
  uint32_t *k = Tile::words(k_rows), *v = Tile::words(v_pairs);
  const AttentionPlace at = AttentionPlace::of_block(a);
  qkv += at.qkv;
  const int64_t stride = 3 * int64_t{a.width};
  const int first = static_cast<int>(at.tile * blockDim.x + threadIdx.x) / kWarp * 16;

  typename Tile::Left q;
  Tile::load(qkv, stride, first, a, q);
  RunningSoftmax<Tile> softmax;
  typename Tile::Result sums{};
  for (int key = 0; key < a.tokens; key += Tile::kKeys) {
    __syncthreads();  // others may still read the last keys
    Tile::template stage<true, false>(qkv + a.width, stride, key, a, k, nullptr);
    Tile::template stage<false, true>(qkv + 2 * a.width, stride, key, a, nullptr, v);
    __syncthreads();
    if (first >= a.tokens) continue;  // the whole warp
    typename Tile::Scores s;
    Tile::dot(q, k, a.tokens - key, s);
    softmax.fold(s, a.scale2, a.tokens - key, sums);
    Tile::add_product(s, v, a.tokens - key, sums);
  }
  if (first >= a.tokens) return;
  softmax.finish(sums);
  Tile::put(sums, first, y + at.y, a.width, a, false);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = first + Tile::g() + 8 * half;
    if (Tile::t() == 0 && r < a.tokens) log_sums[at.task * a.tokens + r] = softmax.top[half];
  }
}

// p = 2^(s - log_sum), dp -> ds = p (dp - delta) / sqrt(D), as in attention_cuda.cu.
template <class Tile, bool kOwnKeys>
__device__ void scores_backward(const float* log_sums, const float* delta, int first, int other,
                                const AttentionRun<float>& a, typename Tile::Scores& p,
                                typename Tile::Scores& ds) {
#pragma unroll
  for (int n = 0; n < Tile::kKeys / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int own_row = first + Tile::g() + e / 2 * 8;
      const int other_row = other + 8 * n + 2 * Tile::t() + e % 2;
      const bool real = own_row < a.tokens && other_row < a.tokens;
      const int query = kOwnKeys ? other_row : own_row;
      p[n][e] = real ? power_of_2(p[n][e] * a.scale2 - log_sums[query]) : 0;
      ds[n][e] = real ? p[n][e] * (ds[n][e] - delta[query]) * a.scale : 0;
    }
  }
}

// A block some 16 rows a warp of one head: queries (dq) or, where kOwnKeys, keys (dk, dv).
template <class Tile, bool kOwnKeys, class S>
__global__ void __launch_bounds__(8 * kWarp)
    backward_kernel(const S* qkv, const float* log_sums, const float* delta, const S* dy, S* dqkv,
                    AttentionRun<float> a) {
  __shared__ typename Tile::Memory memory[kOwnKeys ? 4 : 3];
  uint32_t *rows = Tile::words(memory[0]), *second_rows = Tile::words(memory[1]);
  uint32_t* pairs = Tile::words(memory[2]);
  uint32_t* second_pairs = kOwnKeys ? Tile::words(memory[kOwnKeys ? 3 : 0]) : nullptr;
  const AttentionPlace at = AttentionPlace::of_block(a);
  const S *q = qkv + at.qkv, *k = q + a.width, *v = k + a.width, *g = dy + at.y;
  log_sums += at.task * a.tokens;
  delta += at.task * a.tokens;
  const int64_t stride = 3 * int64_t{a.width}, narrow = a.width;  // of dy
  const int first = static_cast<int>(at.tile * blockDim.x + threadIdx.x) / kWarp * 16;

  typename Tile::Left own, second_own;
  Tile::load(kOwnKeys ? k : q, stride, first, a, own);
  Tile::load(kOwnKeys ? v : g, kOwnKeys ? stride : narrow, first, a, second_own);
  typename Tile::Result sums{}, second_sums{};  // of dq, or dk and dv
  for (int other = 0; other < a.tokens; other += Tile::kKeys) {
    __syncthreads();  // others may still read the last tile
    Tile::template stage<true, true>(kOwnKeys ? q : k, stride, other, a, rows, pairs);
    Tile::template stage<true, kOwnKeys>(kOwnKeys ? g : v, kOwnKeys ? narrow : stride, other, a,
                                         second_rows, second_pairs);
    __syncthreads();
    if (first >= a.tokens) continue;  // the whole warp
    const int keys = a.tokens - other;
    typename Tile::Scores p, ds;
    Tile::dot(own, rows, keys, p);
    Tile::dot(second_own, second_rows, keys, ds);
    scores_backward<Tile, kOwnKeys>(log_sums, delta, first, other, a, p, ds);
    if constexpr (kOwnKeys) Tile::add_product(p, second_pairs, keys, second_sums);
    Tile::add_product(ds, pairs, keys, sums);
  }
  if (first >= a.tokens) return;
  S* to = dqkv + at.qkv + (kOwnKeys ? a.width : 0);
  Tile::put(sums, first, to, stride, a, a.add);
  if constexpr (kOwnKeys) Tile::put(second_sums, first, to + a.width, stride, a, a.add);
}

// Calls body.operator()<kDim>() with the smallest tile that holds a head_dim of at most 128.
template <class Body>
void with_dim(int64_t dim, Body&& body) {
  if (dim <= 16) return body.template operator()<16>();
  if (dim <= 32) return body.template operator()<32>();
  if (dim <= 64) return body.template operator()<64>();
  body.template operator()<128>();
}

}  // namespace

template <class S>
void attention_bf16_forward(Cuda on, const S* qkv, float* saved, S* y, AttentionSize s) {
  AttentionRun<float> a = attention_run<S>(s, Precision::kBf16, qkv, y);
  if (s.batch * s.heads * s.tokens * s.head_dim == 0) return;
  const int threads = share_out_rows(a);
  with_dim(s.head_dim, [&]<int kDim>() {
    launch(on, blocks_for(s.batch * s.heads * a.tiles, 1), threads,
           forward_kernel<MmaTile<kDim, 64>, S>, qkv, saved, y, a);
  });
}

template <class S>
void attention_bf16_backward(Cuda on, const S* qkv, const float* saved, const float* delta,
                             const S* dy, S* dqkv, AttentionSize s, AttentionRun<float> a) {
  const int threads = share_out_rows(a);
  with_dim(s.head_dim, [&]<int kDim>() {
    using Tile = MmaTile<kDim, kDim <= 64 ? 32 : 16>;
    const unsigned blocks = blocks_for(s.batch * s.heads * a.tiles, 1);
    launch(on, blocks, threads, backward_kernel<Tile, false, S>, qkv, saved, delta, dy, dqkv, a);
    launch(on, blocks, threads, backward_kernel<Tile, true, S>, qkv, saved, delta, dy, dqkv, a);
  });
}

template void attention_bf16_forward(Cuda, const float*, float*, float*, AttentionSize);
template void attention_bf16_forward(Cuda, const bf16*, float*, bf16*, AttentionSize);
template void attention_bf16_backward(Cuda, const float*, const float*, const float*, const float*,
                                      float*, AttentionSize, AttentionRun<float>);
template void attention_bf16_backward(Cuda, const bf16*, const float*, const float*, const bf16*,
                                      bf16*, AttentionSize, AttentionRun<float>);

}  // namespace engine::kernels
