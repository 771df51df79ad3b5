#pragma once

#include "engine/gemm/mma.cuh"
#include "engine/gemm/tile_product.cuh"

// Tiles on tensor cores: words of `Format` (mma.cuh) in shared memory, sums in f32 along k in steps
// of 8 words. Operands are f32 in memory, rounded to words on the way, or bf16, moved as they are.
namespace engine::kernels {

// One operand's step of multiply_tile() in shared memory: kSize lines or columns of kLineWords
// words along k. Lines along k (kAlong) are stored word beside word, those across k are put side by
// side; either way the lanes of a fragment read 32 banks.
template <bool kAlong>
struct WordPlaces {
  static constexpr int kSize = 128, kLineWords = 16;
  static constexpr int kLd = kAlong ? kLineWords + 4 : kSize + 8;
  static constexpr int kWords = kAlong ? kSize * kLd : kLineWords * kLd;

  // Word w of k at element i of the tile.
  static __device__ int place(int i, int w) { return kAlong ? i * kLd + w : w * kLd + i; }
};

template <class Format, class In, bool kAlong, bool kPacked>
struct MmaStage;

// f32 in memory.
template <class Format, bool kAlong, bool kPacked>
struct MmaStage<Format, float, kAlong, kPacked> : WordPlaces<kAlong> {
  using WordPlaces<kAlong>::place;
  static constexpr int kPer = Format::kPerWord;
  static constexpr int kDepth = WordPlaces<kAlong>::kLineWords * kPer;
  static constexpr int kPacks = 2 * kPer;  // of a thread
  static_assert(kDepth * WordPlaces<kAlong>::kSize == kPacks * kTileThreads * 4);

  Pack<float, 4> held[kPacks];

  __device__ void load(const Source<float>& from, int p) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if constexpr (kAlong) {
        const int pack = i * kTileThreads + static_cast<int>(threadIdx.x);
        constexpr int kInLine = kDepth / 4;
        held[i] = from.template load<kPacked>(pack / kInLine, p + pack % kInLine * 4);
      } else {
        const int word = line_of(i / kPer), at = lane_of();
        held[i] = from.template load<kPacked>(p + word * kPer + i % kPer, at);
      }
    }
  }
  __device__ void store(uint32_t* words) const {
    if constexpr (kAlong) {
#pragma unroll
      for (int i = 0; i < kPacks; ++i) {
        const int pack = i * kTileThreads + static_cast<int>(threadIdx.x);
        constexpr int kInLine = kDepth / 4, kHeld = 4 / kPer;  // words of a pack
        Pack<uint32_t, kHeld> out;
#pragma unroll
        for (int w = 0; w < kHeld; ++w) {
          float x[kPer];
#pragma unroll
          for (int e = 0; e < kPer; ++e) x[e] = held[i].v[w * kPer + e];
          out.v[w] = Format::pack(x);
        }
        out.store(words + place(pack / kInLine, pack % kInLine * kHeld));
      }
    } else {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        Pack<uint32_t, 4> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float x[kPer];
#pragma unroll
          for (int e = 0; e < kPer; ++e) x[e] = held[i * kPer + e].v[j];
          out.v[j] = Format::pack(x);
        }
        out.store(words + place(lane_of(), line_of(i)));
      }
    }
  }

 private:
  // Across k: a warp stores whole lines, line_of() 0 and 1 are 8 words apart.
  static __device__ int line_of(int i) { return i * 8 + static_cast<int>(threadIdx.x) / kWarp; }
  static __device__ int lane_of() { return static_cast<int>(threadIdx.x) % kWarp * 4; }
};

// bf16 in memory: two elements are a word already. 16 bytes an access.
template <bool kAlong, bool kPacked>
struct MmaStage<Bf16Words, bf16, kAlong, kPacked> : WordPlaces<kAlong> {
  using WordPlaces<kAlong>::place;
  static constexpr int kDepth = WordPlaces<kAlong>::kLineWords * 2;
  static constexpr int kInLine = (kAlong ? kDepth : WordPlaces<kAlong>::kSize) / 8;  // packs
  static_assert(kDepth * WordPlaces<kAlong>::kSize == 2 * kTileThreads * 8);

  // Along k: packs of two lines. Across k: of the two lines that a word is made of.
  Pack<bf16, 8> held[2];

  __device__ void load(const Source<bf16>& from, int p) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      held[i] = kAlong ? from.template load<kPacked>(line(i), p + at())
                       : from.template load<kPacked>(p + 2 * line(0) + i, at());
    }
  }
  __device__ void store(uint32_t* words) const {
    if constexpr (kAlong) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        Pack<uint32_t, 4> out;
#pragma unroll
        for (int w = 0; w < 4; ++w) out.v[w] = word(held[i].v[2 * w], held[i].v[2 * w + 1]);
        out.store(words + place(line(i), at() / 2));
      }
    } else {
#pragma unroll
      for (int half = 0; half < 8; half += 4) {
        Pack<uint32_t, 4> out;
#pragma unroll
        for (int e = 0; e < 4; ++e) out.v[e] = word(held[0].v[half + e], held[1].v[half + e]);
        out.store(words + place(at() + half, line(0)));
      }
    }
  }

 private:
  static __device__ uint32_t word(bf16 low, bf16 high) {
    return low.bits | uint32_t{high.bits} << 16;
  }
  static __device__ int line(int i) {
    return (i * kTileThreads + static_cast<int>(threadIdx.x)) / kInLine;
  }
  static __device__ int at() { return static_cast<int>(threadIdx.x) % kInLine * 8; }
};

template <class Format, class Memory = float>
class MmaTile {
 public:
  using In = Memory;
  using Word = uint32_t;
  template <bool kAlong, bool kPacked>
  using Stage = MmaStage<Format, In, kAlong, kPacked>;
  static constexpr int kSize = WordPlaces<true>::kSize;
  static constexpr int kLineWords = WordPlaces<true>::kLineWords;  // of k in a step
  static constexpr int kDepth = kLineWords * Format::kPerWord;

  template <class StageA, class StageB>
  __device__ void multiply(const uint32_t* a, const uint32_t* b) {
#pragma unroll
    for (int step = 0; step < kLineWords; step += 8) {
      uint32_t y[kAcross][2];
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        const int column = first_column() + 8 * j + group();
        y[j][0] = b[StageB::place(column, step + within())];
        y[j][1] = b[StageB::place(column, step + within() + 4)];
      }
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
        const int row = first_row() + 16 * i + group();
        const uint32_t x[4] = {a[StageA::place(row, step + within())],
                               a[StageA::place(row + 8, step + within())],
                               a[StageA::place(row, step + within() + 4)],
                               a[StageA::place(row + 8, step + within() + 4)]};
#pragma unroll
        for (int j = 0; j < kAcross; ++j) Format::multiply(sums_[i][j], x, y[j]);
      }
    }
  }

  template <bool kPacked, class Out>
  __device__ void put(const Destination<Out>& to) const {
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        const int row = first_row() + 16 * i + group();
        const int column = first_column() + 8 * j + 2 * within();
        const float(&c)[4] = sums_[i][j];
        to.template put<kPacked>(row, column, Pack<float, 2>{{c[0], c[1]}});
        to.template put<kPacked>(row + 8, column, Pack<float, 2>{{c[2], c[3]}});
      }
    }
  }

 private:
  // 8 warps, 2 down and 4 across, of 64 x 32 elements each: 4 x 4 products of 16 x 8.
  static constexpr int kDown = 4, kAcross = 4;
  static __device__ int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  static __device__ int first_row() { return warp() / 4 * 64; }
  static __device__ int first_column() { return warp() % 4 * 32; }
  static __device__ int group() { return static_cast<int>(threadIdx.x) % kWarp / 4; }
  static __device__ int within() { return static_cast<int>(threadIdx.x) % 4; }

  float sums_[kDown][kAcross][4] = {};
};

}  // namespace engine::kernels
