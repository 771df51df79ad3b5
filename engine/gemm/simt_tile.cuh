#pragma once

#include "engine/gemm/tile_product.cuh"

// Tiles in f32 and f64 by multiply-adds of single threads: one chain over k for each element.
namespace engine::kernels {

template <class T>
class SimtTile {
 public:
  using In = T;
  using Word = T;
  static constexpr int kVec = kPack<T>;
  static constexpr int kSide = 16;                // threads along each side of the tile
  static constexpr int kSize = kSide * kVec * 2;  // 128 x 128 in f32, 64 x 64 in f64
  static constexpr int kDepth = 16;

  // One operand's step in shared memory: word (p, i) is element i of the tile at k = p. A thread
  // holds two packs of it on their way.
  template <bool kAlong, bool kPacked>
  struct Stage {
    static constexpr int kLd = kSize + kVec;
    static constexpr int kWords = kDepth * kLd;
    static constexpr int kInLine = (kAlong ? kDepth : kSize) / kVec;  // packs of a line
    static_assert(kDepth * kSize == 2 * kTileThreads * kVec);

    Pack<T, kVec> held[2];

    __device__ void load(const Source<T>& from, int p) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int pack = i * kTileThreads + static_cast<int>(threadIdx.x);
        const int line = pack / kInLine, at = pack % kInLine * kVec;
        held[i] = kAlong ? from.template load<kPacked>(line, p + at)
                         : from.template load<kPacked>(p + line, at);
      }
    }
    __device__ void store(T* words) const {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int pack = i * kTileThreads + static_cast<int>(threadIdx.x);
        const int line = pack / kInLine, at = pack % kInLine * kVec;
        if constexpr (kAlong) {
#pragma unroll
          for (int e = 0; e < kVec; ++e) words[(at + e) * kLd + line] = held[i].v[e];
        } else {
          held[i].store(words + line * kLd + at);
        }
      }
    }
  };

  template <class StageA, class StageB>
  __device__ void multiply(const T* a, const T* b) {
#pragma unroll
    for (int p = 0; p < kDepth; ++p) {
      Pack<T, kVec> x[2], y[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        x[h] = Pack<T, kVec>::load(a + p * StageA::kLd + place(line(), h));
        y[h] = Pack<T, kVec>::load(b + p * StageB::kLd + place(lane(), h));
      }
#pragma unroll
      for (int i = 0; i < 2 * kVec; ++i) {
#pragma unroll
        for (int j = 0; j < 2 * kVec; ++j) {
          T& sum = sums_[i][j / kVec].v[j % kVec];
          sum += x[i / kVec].v[i % kVec] * y[j / kVec].v[j % kVec];
        }
      }
    }
  }

  template <bool kPacked>
  __device__ void put(const Destination<T>& to) const {
#pragma unroll
    for (int i = 0; i < 2 * kVec; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        to.template put<kPacked>(place(line(), i / kVec) + i % kVec, place(lane(), h), sums_[i][h]);
      }
    }
  }

 private:
  static __device__ int line() { return static_cast<int>(threadIdx.x) / kSide; }
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % kSide; }
  // Each thread has kVec rows, or columns, of either half of the tile.
  static __device__ int place(int of, int half) { return (half * kSide + of) * kVec; }

  Pack<T, kVec> sums_[2 * kVec][2]{};
};

}  // namespace engine::kernels
