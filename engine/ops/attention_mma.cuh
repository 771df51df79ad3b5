#pragma once

#include <cstdint>

#include "engine/gemm/mma.cuh"
#include "engine/ops/attention_tiles.cuh"

// Tiles of attention on tensor cores: operands in bf16, sums in f32; which lane has what is as in
// mma.cuh. CUDA sources only.
namespace engine::kernels {

// Both numbers rounded to bf16, as one word.
__device__ inline uint32_t bf16_pair(float left, float right) {
  return Bf16Words::pack({left, right});
}

// A warp owns 16 rows; the other operand's rows come kKeys at a time, in shared memory, in one of
// two forms: `rows` for products over head_dim (a word is two neighbours of a row), `pairs` for
// products over keys (a word is a column's numbers of two neighbouring rows). kDim: head_dim,
// rounded up; the rest is zeros.
template <int kDim, int kTileKeys>
struct MmaTile {
  static constexpr int kKeys = kTileKeys, kSteps = kDim / 16;
  static constexpr int kRowStride = kDim / 2 + 4, kPairStride = kDim + 8;  // words
  static constexpr int kWords = kKeys * kRowStride;                        // of either form
  static_assert(kWords == kKeys / 2 * kPairStride && kWords % 4 == 0);
  using Memory = Pack<uint32_t, 4>[kWords / 4];
  using Left = uint32_t[kSteps][4];    // 16 rows
  using Scores = float[kKeys / 8][4];  // 16 rows times keys
  using Result = float[kDim / 8][4];   // 16 rows of results
  using Run = AttentionRun<float>;

  static __device__ uint32_t* words(Memory& m) { return reinterpret_cast<uint32_t*>(m); }
  static __device__ int g() { return threadIdx.x % kWarp / 4; }
  static __device__ int t() { return threadIdx.x % 4; }

  // Rows first ... first + 15 of x, `stride` apart; zeros where there are none.
  template <class S>
  static __device__ void load(const S* x, int64_t stride, int first, const Run& a, Left& left) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto p =
            read_pack<2>(x, stride, first + g() + i % 2 * 8, 16 * s + 2 * t() + i / 2 * 8, a);
        left[s][i] = bf16_pair(p.v[0], p.v[1]);
      }
    }
  }

  // Rows first ... first + kKeys - 1 into shared memory in the forms that are asked for; up to the
  // next 16 beyond the last token they are zeros, from there on not written.
  template <bool kAsRows, bool kAsPairs, class S>
  static __device__ void stage(const S* x, int64_t stride, int first, const Run& a, uint32_t* rows,
                               uint32_t* pairs) {
    const int end = min(kKeys, (a.tokens - first + 15) / 16 * 16);
    for (int i = threadIdx.x; i < end / 2 * (kDim / 4); i += blockDim.x) {
      const int pair = i / (kDim / 4), column = i % (kDim / 4) * 4;
      const auto p = read_pack<4>(x, stride, first + 2 * pair, column, a);
      const auto q = read_pack<4>(x, stride, first + 2 * pair + 1, column, a);
      if constexpr (kAsRows) {
        uint32_t* to = rows + 2 * pair * kRowStride + column / 2;
        Pack<uint32_t, 2>{bf16_pair(p.v[0], p.v[1]), bf16_pair(p.v[2], p.v[3])}.store(to);
        Pack<uint32_t, 2>{bf16_pair(q.v[0], q.v[1]), bf16_pair(q.v[2], q.v[3])}.store(to +
                                                                                      kRowStride);
      }
      if constexpr (kAsPairs) {
        Pack<uint32_t, 4> both;
#pragma unroll
        for (int u = 0; u < 4; ++u) both.v[u] = bf16_pair(p.v[u], q.v[u]);
        both.store(pairs + pair * kPairStride + column);
      }
    }
  }

  // s = left rows^T over the first `keys` keys, up to the next 8; 0 from there on.
  static __device__ void dot(const Left& left, const uint32_t* rows, int keys, Scores& s) {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
      if (8 * n >= keys) continue;
      const uint32_t* at = rows + (8 * n + g()) * kRowStride + t();
#pragma unroll
      for (int k = 0; k < kSteps; ++k)
        Bf16Words::multiply(s[n], left[k], {at[8 * k], at[8 * k + 4]});
    }
  }

  // sums += s pairs over the first `keys` keys; s of the others must be 0.
  static __device__ void add_product(const Scores& s, const uint32_t* pairs, int keys,
                                     Result& sums) {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      if (16 * k >= keys) continue;
      const auto &p = s[2 * k], &q = s[2 * k + 1];
      const uint32_t left[4] = {bf16_pair(p[0], p[1]), bf16_pair(p[2], p[3]), bf16_pair(q[0], q[1]),
                                bf16_pair(q[2], q[3])};
      const uint32_t* at = pairs + (8 * k + t()) * kPairStride + g();
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        Bf16Words::multiply(sums[n], left, {at[8 * n], at[4 * kPairStride + 8 * n]});
      }
    }
  }

  // Row `first` is the warp's first one.
  template <class S>
  static __device__ void put(const Result& sums, int first, S* to, int64_t stride, const Run& a,
                             bool add) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        write_pack<2>(Pack<float, 2>{sums[n][2 * half], sums[n][2 * half + 1]}, to, stride,
                      first + g() + 8 * half, 8 * n + 2 * t(), a, add);
      }
    }
  }
};

// Threads of a block: the rows of a head are shared out as evenly as 16 rows a warp and at most 8
// warps a block allow. Sets a.tiles, the blocks of a head.
inline int share_out_rows(AttentionRun<float>& a) {
  const int warps = (a.tokens + 15) / 16;
  a.tiles = (warps + 7) / 8;
  return (warps + a.tiles - 1) / a.tiles * kWarp;
}

}  // namespace engine::kernels
