#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "engine/core/precision.h"
#include "engine/ops/attention_kernels.h"
#include "engine/ops/warp.cuh"

// Tiles of attention on CUDA: rows of one head in shared memory, products of them in registers.
// CUDA sources only.
namespace engine::kernels {

// What every block needs to know. `width` is H*D; scores are used in units of log2: scale2 is
// log2(e) / sqrt(D).
template <class T>
struct AttentionRun {
  int tokens, heads, dim, width;
  int tiles;  // of one head
  T scale, scale2;
  bool packed;   // rows may be read and written 16 bytes at a time
  bool rounded;  // to bf16: operands of products
  bool add;      // gradients accumulate
};

// Which tile of which head a block has, and where the head's rows begin.
struct AttentionPlace {
  int64_t task, qkv, y;  // task: b*H + h; the others are element offsets
  int tile;
  template <class T>
  static __device__ AttentionPlace of_block(const AttentionRun<T>& a) {
    const int64_t task = blockIdx.x / a.tiles, b = task / a.heads, h = task % a.heads;
    const int64_t y = b * a.tokens * a.width + h * a.dim;
    return {task, 3 * y - 2 * h * a.dim, y, static_cast<int>(blockIdx.x % a.tiles)};
  }
};

template <class T>
__device__ T power_of_2(T x) {
  if constexpr (std::is_same_v<T, float>) return exp2f(x);
  return exp2(x);
}
template <class T>
__device__ T log_of_2(T x) {
  if constexpr (std::is_same_v<T, float>) return log2f(x);
  return log2(x);
}

// kVec neighbours of row `row` of x, whose rows are `stride` apart; zeros outside of it.
template <int kVec, class S>
__device__ Pack<Wide<S>, kVec> read_pack(const S* x, int64_t stride, int row, int column,
                                         const AttentionRun<Wide<S>>& a) {
  Pack<Wide<S>, kVec> p{};
  const int wanted = row < a.tokens ? a.dim - column : 0;  // numbers that there are
  const S* from = x + row * stride + column;
  if (a.packed) {
    if (wanted > 0) p = Pack<Wide<S>, kVec>::load(from);
  } else {
#pragma unroll
    for (int u = 0; u < kVec; ++u) {
      if (u < wanted) p.v[u] = wide(from[u]);
    }
  }
  return p;
}
template <int kVec, class S>
__device__ void write_pack(const Pack<Wide<S>, kVec>& p, S* x, int64_t stride, int row, int column,
                           const AttentionRun<Wide<S>>& a, bool add) {
  const int wanted = row < a.tokens ? a.dim - column : 0;
  S* to = x + row * stride + column;
  if (a.packed) {
    if (wanted > 0) p.put(to, add);
  } else {
#pragma unroll
    for (int u = 0; u < kVec; ++u) {
      if (u < wanted) Pack<Wide<S>, 1>{p.v[u]}.put(to + u, add);
    }
  }
}

// A block owns kRows rows, 4*kLaneRows of them each warp; the other operand's rows ("keys") come
// kKeys at a time. Of a warp's products lane l has rows l/8 + 4i and keys l%8 + 8j; of its
// results rows l/8 + 4i and packs l%8 + 8j of columns. kDim: head_dim, rounded up; the rest is
// zeros.
template <class Type, int kDim, int kTileWarps, int kRowsOfLane, int kKeysOfLane>
struct AttentionTile {
  using T = Type;
  static constexpr int kVec = kPack<T>, kWarps = kTileWarps, kThreads = kWarps * kWarp;
  static constexpr int kLaneRows = kRowsOfLane, kLaneKeys = kKeysOfLane;
  static constexpr int kWarpRows = 4 * kLaneRows, kRows = kWarps * kWarpRows;
  static constexpr int kKeys = 8 * kLaneKeys;
  static constexpr int kWidth = kDim / kVec, kLanePacks = kWidth / 8;
  // In packs. Neighbouring rows begin in different banks.
  static constexpr int kStride = kWidth + 1, kWeightStride = (kKeys | 8) / kVec;
  using Packed = Pack<T, kVec>;
  using Scores = T[kLaneRows][kLaneKeys];
  using Result = Packed[kLaneRows][kLanePacks];

  static __device__ int warp() { return threadIdx.x / kWarp; }
  static __device__ int row() { return threadIdx.x % kWarp / 8; }  // of the warp, plus 4i
  static __device__ int key() { return threadIdx.x % 8; }          // plus 8j

  // Rows first ... first + kCount - 1 of x, `stride` apart, into shared memory; zeros where there
  // are none.
  template <int kCount>
  static __device__ void stage(const T* x, int64_t stride, int first, const AttentionRun<T>& a,
                               Packed* to) {
    for (int i = threadIdx.x; i < kCount * kWidth; i += kThreads) {
      const int r = i / kWidth, pack = i % kWidth;
      to[r * kStride + pack] = read_pack<kVec>(x, stride, first + r, pack * kVec, a);
    }
  }

  // s = own other^T of the warp's rows, of which `own` is the first.
  static __device__ void dot(const Packed* own, const Packed* other, int dim, Scores& s) {
#pragma unroll
    for (auto& of_row : s) {
#pragma unroll
      for (T& x : of_row) x = 0;
    }
    own += row() * kStride;
    other += key() * kStride;
    const int packs = (dim + kVec - 1) / kVec;
#pragma unroll 2
    for (int d = 0; d < packs; ++d) {
      Packed b[kLaneKeys];
#pragma unroll
      for (int j = 0; j < kLaneKeys; ++j) b[j] = other[8 * j * kStride + d];
#pragma unroll
      for (int i = 0; i < kLaneRows; ++i) {
        const Packed a = own[4 * i * kStride + d];
#pragma unroll
        for (int j = 0; j < kLaneKeys; ++j) {
#pragma unroll
          for (int u = 0; u < kVec; ++u) s[i][j] += a.v[u] * b[j].v[u];
        }
      }
    }
  }

  // Gives the warp's weights to all of its lanes: `weights` is the warp's part of shared memory,
  // and nobody reads an earlier content any more.
  static __device__ void share(const Scores& s, Packed* weights) {
    T* to = reinterpret_cast<T*>(weights + row() * kWeightStride) + key();
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
#pragma unroll
      for (int j = 0; j < kLaneKeys; ++j) {
        to[4 * i * kWeightStride * kVec + 8 * j] = s[i][j];
      }
    }
    __syncwarp();
  }

  // sums += weights other, over the first `keys` keys; weights of the others must be 0.
  static __device__ void add_product(const Packed* weights, const Packed* other, int keys,
                                     Result& sums) {
    weights += row() * kWeightStride;
    other += key();
    for (int k = 0; k < kKeys / kVec && k * kVec < keys; ++k) {
      Packed w[kLaneRows];
#pragma unroll
      for (int i = 0; i < kLaneRows; ++i) w[i] = weights[4 * i * kWeightStride + k];
#pragma unroll
      for (int u = 0; u < kVec; ++u) {
#pragma unroll
        for (int l = 0; l < kLanePacks; ++l) {
          const Packed b = other[(k * kVec + u) * kStride + 8 * l];
#pragma unroll
          for (int i = 0; i < kLaneRows; ++i) {
#pragma unroll
            for (int v = 0; v < kVec; ++v) sums[i][l].v[v] += w[i].v[u] * b.v[v];
          }
        }
      }
    }
  }

  // Row `first` is the warp's first one.
  static __device__ void put(const Result& sums, int first, T* to, int64_t stride,
                             const AttentionRun<T>& a, bool add) {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
#pragma unroll
      for (int l = 0; l < kLanePacks; ++l) {
        write_pack(sums[i][l], to, stride, first + row() + 4 * i, (key() + 8 * l) * kVec, a, add);
      }
    }
  }
};

// The run of a kernel that reads and writes `bases`, without its tiles. Error(kShape) for what is
// too large for one. S is what memory holds.
template <class S, class T = Wide<S>, class... Pointers>
AttentionRun<T> attention_run(AttentionSize s, Precision precision, const Pointers*... bases) {
  check(s.head_dim <= 128, ErrorKind::kShape,
        "attention on CUDA: heads of at most 128 numbers, got ", s.head_dim);
  check(std::max(s.tokens, s.heads * s.head_dim) <= INT32_MAX / 4, ErrorKind::kShape,
        "attention on CUDA: too large: ", s.tokens, " tokens of ", s.heads * s.head_dim);
  AttentionRun<T> a{};
  a.tokens = static_cast<int>(s.tokens);
  a.heads = static_cast<int>(s.heads);
  a.dim = static_cast<int>(s.head_dim);
  a.width = a.heads * a.dim;
  a.scale = T(1) / std::sqrt(static_cast<T>(s.head_dim));
  a.scale2 = static_cast<T>(1.4426950408889634 / std::sqrt(static_cast<double>(s.head_dim)));
  a.packed = packable<S>(s.head_dim, bases...);
  a.rounded = precision == Precision::kBf16;
  return a;
}

// Calls body.operator()<Tile>() with the tile for a head_dim of at most 128 that fits into 48 KiB
// of shared memory: forward keeps one matrix of rows and two of keys, backward two of each.
template <class T, bool kBackward, class Body>
void with_attention_tile(int64_t dim, Body&& body) {
  const auto call = [&]<int kDim, int kWarps, int kLaneRows, int kLaneKeys>() {
    body.template operator()<AttentionTile<T, kDim, kWarps, kLaneRows, kLaneKeys>>();
  };
  constexpr bool kF32 = std::is_same_v<T, float>;
  if (dim <= 32) {
    call.template operator()<32, kF32 || !kBackward ? 4 : 2, 4, kF32 ? 4 : 2>();
  } else if (dim <= 64) {
    constexpr int kWarps = kF32 ? 4 : 2;
    call.template operator()<64, kBackward ? kWarps / 2 : kWarps, 4, kF32 ? 4 : 2>();
  } else if constexpr (kF32) {
    call.template operator()<128, kBackward ? 1 : 2, 4, 2>();
  } else {
    call.template operator()<128, 1, kBackward ? 2 : 4, 1>();
  }
}

// attention_forward in bf16, on tensor cores (attention_bf16_cuda.cu), of tensors stored in f32 or
// bf16; saves the same. And backward from delta on, for at least one row.
template <class S>
void attention_bf16_forward(Cuda on, const S* qkv, float* saved, S* y, AttentionSize s);
template <class S>
void attention_bf16_backward(Cuda on, const S* qkv, const float* saved, const float* delta,
                             const S* dy, S* dqkv, AttentionSize s, AttentionRun<float> a);

}  // namespace engine::kernels
