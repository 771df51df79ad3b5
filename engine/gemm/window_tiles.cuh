#pragma once

#include <algorithm>

#include "engine/gemm/window_product.h"
#include "engine/ops/warp.cuh"

// Tiles of products whose one side is windows of pictures, CUDA cores: what a block multiplies, and
// how its threads fetch it. A thread's packs of the next kTileDepth steps of k are fetched to
// registers while the block multiplies the last ones out of shared memory. CUDA sources only.
namespace engine::kernels {

inline constexpr int kTileDepth = 16;
inline constexpr int kMostTaps = 128;  // a kernel's arguments have room for no more

// A block's part of the output, kM x kN, of which each thread has kTM x kTN elements.
template <int kRows, int kCols, int kThreadRows, int kThreadCols>
struct WindowTile {
  static constexpr int kM = kRows, kN = kCols, kTM = kThreadRows, kTN = kThreadCols;
  static constexpr int kAcross = kN / kTN, kThreads = kM / kTM * kAcross;
  static constexpr int kBlocks = kTN > 4 ? 2 : 1;  // that a multiprocessor should hold at least
  static_assert(kThreads % kTileDepth == 0);
};

// Windows by value, as a kernel takes them.
struct WindowShape {
  int in_h, in_w, out_h, out_w, stride, channels, taps;
  int64_t rows;
  int tap_y[kMostTaps], tap_x[kMostTaps], tap_block[kMostTaps];

  explicit WindowShape(const Windows& w);
  __host__ __device__ int64_t depth() const { return int64_t{taps} * channels; }
};

// An output pixel.
struct WindowPixel {
  int64_t b;
  int y, x;
  __device__ WindowPixel(const WindowShape& w, int64_t row) {
    const int64_t line = row / w.out_w;
    x = static_cast<int>(row - line * w.out_w);
    b = line / w.out_h;
    y = static_cast<int>(line - b * w.out_h);
  }
};

// Where along the columns of the windows a thread is.
struct DepthWalk {
  int tap, channel;
  __device__ DepthWalk(const WindowShape& w, int first)
      : tap(first / w.channels), channel(first % w.channels) {}
  __device__ void advance(const WindowShape& w) {
    for (channel += kTileDepth; channel >= w.channels; channel -= w.channels) ++tap;
  }
};

template <class T>
__device__ T rounded_if(T x, bool rounds) {
  if constexpr (std::is_same_v<T, float>) {
    if (rounds) return to_float(to_bf16(x));
  }
  return x;
}

// Shared memory of one side: kTileDepth lines of kWidth elements, lines on 16 bytes.
template <class T, int kWidth>
struct TileLines {
  static constexpr int kLine = kWidth + kPack<T>;
  T at[kTileDepth][kLine];
};

// How threads fetch a side whose memory runs along k: each has one pack of k in kLoads lines.
template <class T, class Tile, int kWidth, int kVec>
struct AlongDepth {
  static constexpr int kPacks = kTileDepth / kVec, kStep = Tile::kThreads / kPacks;
  static constexpr int kLoads = kWidth / kStep;
  static_assert(kLoads * kStep == kWidth);
  static __device__ int depth() { return static_cast<int>(threadIdx.x) % kPacks * kVec; }
  static __device__ int line(int i) { return static_cast<int>(threadIdx.x) / kPacks + i * kStep; }
  static __device__ void put(const Pack<T, kVec> (&in)[kLoads], TileLines<T, kWidth>& to,
                             bool rounds) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) to.at[depth() + j][line(i)] = rounded_if(in[i].v[j], rounds);
    }
  }
};

// The same where memory runs across k: each thread has one step of k, kLoads packs of it.
template <class T, class Tile, int kWidth, int kVec>
struct AcrossDepth {
  static constexpr int kBeside = Tile::kThreads / kTileDepth;
  static constexpr int kLoads = kWidth / (kBeside * kVec);
  static_assert(kLoads * kBeside * kVec == kWidth);
  static __device__ int depth() { return static_cast<int>(threadIdx.x) / kBeside; }
  static __device__ int at(int i) {
    return (static_cast<int>(threadIdx.x) % kBeside + i * kBeside) * kVec;
  }
  static __device__ void put(Pack<T, kVec> (&in)[kLoads], TileLines<T, kWidth>& to, bool rounds) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) in[i].v[j] = rounded_if(in[i].v[j], rounds);
      in[i].store(&to.at[depth()][at(i)]);
    }
  }
};

// Left side: kM rows of the windows from `first` on, zeros beyond the last.
template <class T, class Tile, int kVec>
struct WindowRowsOf {
  using Way = AlongDepth<T, Tile, Tile::kM, kVec>;
  const WindowShape& w;
  const T* pictures;
  DepthWalk walk;
  int64_t base[Way::kLoads];
  int y[Way::kLoads], x[Way::kLoads];
  Pack<T, kVec> in[Way::kLoads];

  __device__ WindowRowsOf(const WindowShape& shape, const T* from, int64_t first)
      : w(shape), pictures(from), walk(shape, Way::depth()) {
#pragma unroll
    for (int i = 0; i < Way::kLoads; ++i) {
      const int64_t row = first + Way::line(i);
      const WindowPixel pixel(w, min(row, w.rows - 1));
      y[i] = row < w.rows ? pixel.y * w.stride : INT32_MIN / 2;  // outside, whatever the tap
      x[i] = pixel.x * w.stride;
      base[i] = ((pixel.b * w.in_h + pixel.y * w.stride) * w.in_w + x[i]) * w.channels;
    }
  }
  __device__ void fetch() {
    const bool some = walk.tap < w.taps;
    const int down = some ? w.tap_y[walk.tap] : INT32_MIN / 4, right = some ? w.tap_x[walk.tap] : 0;
    const int64_t shift = (int64_t{down} * w.in_w + right) * w.channels + walk.channel;
#pragma unroll
    for (int i = 0; i < Way::kLoads; ++i) {
      const bool inside = static_cast<unsigned>(y[i] + down) < static_cast<unsigned>(w.in_h) &&
                          static_cast<unsigned>(x[i] + right) < static_cast<unsigned>(w.in_w);
      in[i] = Pack<T, kVec>{};
      if (inside) in[i] = Pack<T, kVec>::load(pictures + base[i] + shift);
    }
    walk.advance(w);
  }
  __device__ void put(TileLines<T, Tile::kM>& to, bool rounds) { Way::put(in, to, rounds); }
};

// Right side: kN columns of the taps' blocks, (C, n) each, from `first` on.
template <class T, class Tile, int kVec>
struct WeightsOf {
  using Way = AcrossDepth<T, Tile, Tile::kN, kVec>;
  const WindowShape& w;
  const T* weight;
  int64_t n, first;
  DepthWalk walk;
  Pack<T, kVec> in[Way::kLoads];

  __device__ WeightsOf(const WindowShape& shape, const T* from, int64_t cols, int64_t column)
      : w(shape), weight(from), n(cols), first(column), walk(shape, Way::depth()) {}
  __device__ void fetch() {
    const bool some = walk.tap < w.taps;
    const int64_t block = some ? w.tap_block[walk.tap] : 0;
    const T* line = weight + (block * w.channels + walk.channel) * n;
#pragma unroll
    for (int i = 0; i < Way::kLoads; ++i) {
      const int64_t column = first + Way::at(i);
      in[i] = Pack<T, kVec>{};
      if (some && column < n) in[i] = Pack<T, kVec>::load(line + column);
    }
    walk.advance(w);
  }
  __device__ void put(TileLines<T, Tile::kN>& to, bool rounds) { Way::put(in, to, rounds); }
};

// The same of blocks (n, C).
template <class T, class Tile, int kVec>
struct TransposedWeightsOf {
  using Way = AlongDepth<T, Tile, Tile::kN, kVec>;
  const WindowShape& w;
  const T* weight;
  int64_t n, first;
  DepthWalk walk;
  Pack<T, kVec> in[Way::kLoads];

  __device__ TransposedWeightsOf(const WindowShape& shape, const T* from, int64_t cols,
                                 int64_t column)
      : w(shape), weight(from), n(cols), first(column), walk(shape, Way::depth()) {}
  __device__ void fetch() {
    const bool some = walk.tap < w.taps;
    const int64_t block = some ? w.tap_block[walk.tap] : 0;
#pragma unroll
    for (int i = 0; i < Way::kLoads; ++i) {
      const int64_t column = first + Way::line(i);
      in[i] = Pack<T, kVec>{};
      if (some && column < n) {
        in[i] = Pack<T, kVec>::load(weight + (block * n + column) * w.channels + walk.channel);
      }
    }
    walk.advance(w);
  }
  __device__ void put(TileLines<T, Tile::kN>& to, bool rounds) { Way::put(in, to, rounds); }
};

// Left side of the transposed product: columns [first, first + kM) of the windows, k is the rows
// [begin, end).
template <class T, class Tile, int kVec>
struct WindowColumnsOf {
  static constexpr int kPacks = Tile::kM / kVec;  // threads of one row
  static constexpr int kStep = Tile::kThreads / kPacks, kLoads = kTileDepth / kStep;
  static_assert(kStep * kLoads == kTileDepth);
  const WindowShape& w;
  const T* pictures;
  int64_t row, end;
  WindowPixel pixel;
  int down, right, channel;
  int step_x, step_y, step_b;  // kStep rows further
  Pack<T, kVec> in[kLoads];

  __device__ WindowColumnsOf(const WindowShape& shape, const T* from, int64_t first, int64_t begin,
                             int64_t last)
      : w(shape), pictures(from), row(begin + threadIdx.x / kPacks), end(last), pixel(shape, row) {
    const int64_t column = first + threadIdx.x % kPacks * kVec;
    const bool some = column < w.depth();
    const int tap = some ? static_cast<int>(column / w.channels) : 0;
    channel = static_cast<int>(column % w.channels);
    down = some ? w.tap_y[tap] : INT32_MIN / 2;  // outside, whatever the pixel
    right = w.tap_x[tap];
    step_x = kStep % w.out_w;
    step_y = kStep / w.out_w % w.out_h;
    step_b = kStep / w.out_w / w.out_h;
  }
  __device__ void advance() {
    row += kStep;
    pixel.b += step_b;
    pixel.y += step_y;
    pixel.x += step_x;
    if (pixel.x >= w.out_w) {
      pixel.x -= w.out_w;
      ++pixel.y;
    }
    if (pixel.y >= w.out_h) {
      pixel.y -= w.out_h;
      ++pixel.b;
    }
  }
  __device__ void fetch() {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int y = pixel.y * w.stride + down, x = pixel.x * w.stride + right;
      const bool inside = row < end && static_cast<unsigned>(y) < static_cast<unsigned>(w.in_h) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(w.in_w);
      in[i] = Pack<T, kVec>{};
      if (inside) {
        in[i] = Pack<T, kVec>::load(pictures + ((pixel.b * w.in_h + y) * w.in_w + x) * w.channels +
                                    channel);
      }
      advance();
    }
  }
  __device__ void put(TileLines<T, Tile::kM>& to, bool rounds) {
    const int column = static_cast<int>(threadIdx.x) % kPacks * kVec;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) in[i].v[j] = rounded_if(in[i].v[j], rounds);
      in[i].store(&to.at[static_cast<int>(threadIdx.x) / kPacks + i * kStep][column]);
    }
  }
};

// Its right side: kN columns of (rows, n), k is the rows [begin, end).
template <class T, class Tile, int kVec>
struct MatrixRowsOf {
  using Way = AcrossDepth<T, Tile, Tile::kN, kVec>;
  const T* line;
  int64_t n, first, left;  // rows that are left
  Pack<T, kVec> in[Way::kLoads];

  __device__ MatrixRowsOf(const T* from, int64_t cols, int64_t column, int64_t begin, int64_t end)
      : line(from + (begin + Way::depth()) * cols),
        n(cols),
        first(column),
        left(end - begin - Way::depth()) {}
  __device__ void fetch() {
#pragma unroll
    for (int i = 0; i < Way::kLoads; ++i) {
      const int64_t column = first + Way::at(i);
      in[i] = Pack<T, kVec>{};
      if (left > 0 && column < n) in[i] = Pack<T, kVec>::load(line + column);
    }
    line += kTileDepth * n;
    left -= kTileDepth;
  }
  __device__ void put(TileLines<T, Tile::kN>& to, bool rounds) { Way::put(in, to, rounds); }
};

// Row or column i of a thread's elements: groups of 16 bytes, spread over the tile, so that
// neighbouring threads read neighbouring groups.
template <class T, int kWidth, int kPerThread>
__device__ int element_of(int thread, int i) {
  constexpr int kGroup = kPack<T>, kGroups = kPerThread / kGroup;
  return i / kGroup * (kWidth / kGroups) + thread * kGroup + i % kGroup;
}

// sums = the product of both sides over `depth` steps of k: one chain of fused multiply-adds each,
// in order.
template <class T, class Tile, class Left, class Right>
__device__ void multiply_tiles(Left& left, Right& right, int64_t depth, bool rounds,
                               T (&sums)[Tile::kTM][Tile::kTN]) {
  alignas(16) __shared__ TileLines<T, Tile::kM> lefts[2];
  alignas(16) __shared__ TileLines<T, Tile::kN> rights[2];
  constexpr int kVec = kPack<T>;
  const int across = static_cast<int>(threadIdx.x) % Tile::kAcross;
  const int down = static_cast<int>(threadIdx.x) / Tile::kAcross;
  const int64_t stages = (depth + kTileDepth - 1) / kTileDepth;
  if (stages == 0) return;
  left.fetch();
  right.fetch();
  left.put(lefts[0], rounds);
  right.put(rights[0], rounds);
  __syncthreads();
  for (int64_t s = 0; s < stages; ++s) {
    const int now = static_cast<int>(s % 2);
    if (s + 1 < stages) {
      left.fetch();
      right.fetch();
    }
#pragma unroll
    for (int k = 0; k < kTileDepth; ++k) {
      T a[Tile::kTM], b[Tile::kTN];
#pragma unroll
      for (int i = 0; i < Tile::kTM; i += kVec) {
        const auto v =
            Pack<T, kVec>::load(&lefts[now].at[k][element_of<T, Tile::kM, Tile::kTM>(down, i)]);
#pragma unroll
        for (int q = 0; q < kVec; ++q) a[i + q] = v.v[q];
      }
#pragma unroll
      for (int j = 0; j < Tile::kTN; j += kVec) {
        const auto v =
            Pack<T, kVec>::load(&rights[now].at[k][element_of<T, Tile::kN, Tile::kTN>(across, j)]);
#pragma unroll
        for (int q = 0; q < kVec; ++q) b[j + q] = v.v[q];
      }
#pragma unroll
      for (int i = 0; i < Tile::kTM; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::kTN; ++j) sums[i][j] = fused(a[i], b[j], sums[i][j]);
      }
    }
    if (s + 1 < stages) {
      // What is overwritten here was read by all before the last meeting.
      left.put(lefts[now ^ 1], rounds);
      right.put(rights[now ^ 1], rounds);
      __syncthreads();
    }
  }
}

}  // namespace engine::kernels
