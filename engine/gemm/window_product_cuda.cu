#include "engine/core/cuda_workspace.h"
#include "engine/gemm/window_tiles.cuh"

// Convolutions as products on CUDA cores. Which tiles an output is cut into may depend on all
// sizes: an element is one chain over k in order whatever the tile.
namespace engine::kernels {
namespace {

// Fewer blocks of large tiles than this leave multiprocessors idle: then small ones.
constexpr int64_t kManyBlocks = 96;
// Rows of a weight gradient are cut so that there are about as many blocks, of kChunkRows or more.
constexpr int64_t kGradientBlocks = 264;
constexpr int64_t kChunkRows = 256;

using Small = WindowTile<64, 64, 8, 4>;
using Tall = WindowTile<128, 64, 8, 4>;
using Large = WindowTile<128, 128, 8, 8>;

template <class T>
struct Output {
  T* c;
  const T* bias;  // may be null
  int64_t h, w, step, y0, x0;
  bool add;
};

// c (+)= sums + bias, a group of 16 bytes at a time where kVec allows it.
template <class T, class Tile, int kVec>
__device__ void put_line(const T (&sums)[Tile::kTN], T* line, const T* bias, int64_t first,
                         int64_t n, bool add) {
  const int across = static_cast<int>(threadIdx.x) % Tile::kAcross;
#pragma unroll
  for (int j = 0; j < Tile::kTN; j += kVec) {
    const int64_t column = first + element_of<T, Tile::kN, Tile::kTN>(across, j);
    if (column >= n) continue;
    Pack<T, kVec> v;
#pragma unroll
    for (int q = 0; q < kVec; ++q) v.v[q] = sums[j + q];
    if (add) {
      const auto old = Pack<T, kVec>::load(line + column);
      for (int q = 0; q < kVec; ++q) v.v[q] += old.v[q];
    }
    if (bias != nullptr) {
      const auto b = Pack<T, kVec>::load(bias + column);
      for (int q = 0; q < kVec; ++q) v.v[q] += b.v[q];
    }
    v.store(line + column);
  }
}

// Blocks of the same rows follow each other, so that their pictures come out of the cache.
template <class T, class Tile, int kVec, Trans kTrans>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    product_kernel(const WindowShape w, const T* x, const T* weight, int64_t n, Output<T> to,
                   bool rounds) {
  using Right = std::conditional_t<kTrans == Trans::kNo, WeightsOf<T, Tile, kVec>,
                                   TransposedWeightsOf<T, Tile, kVec>>;
  const int64_t beside = (n + Tile::kN - 1) / Tile::kN;
  const int64_t row = blockIdx.x / beside * Tile::kM, column = blockIdx.x % beside * Tile::kN;
  WindowRowsOf<T, Tile, kVec> left(w, x, row);
  Right right(w, weight, n, column);
  T sums[Tile::kTM][Tile::kTN] = {};
  multiply_tiles<T, Tile>(left, right, w.depth(), rounds, sums);
  const int down = static_cast<int>(threadIdx.x) / Tile::kAcross;
#pragma unroll
  for (int i = 0; i < Tile::kTM; ++i) {
    const int64_t r = row + element_of<T, Tile::kM, Tile::kTM>(down, i);
    if (r >= w.rows) continue;
    const WindowPixel p(w, r);
    const int64_t place = (p.b * to.h + p.y * to.step + to.y0) * to.w + p.x * to.step + to.x0;
    put_line<T, Tile, kVec>(sums[i], to.c + place * n, to.bias, column, n, to.add);
  }
}

// Chunk blockIdx.y of the rows, to matrix blockIdx.y of c.
template <class T, class Tile, int kVec>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    transposed_kernel(const WindowShape w, const T* x, const T* dy, int64_t n, T* c, bool add,
                      bool rounds) {
  const int64_t beside = (n + Tile::kN - 1) / Tile::kN, m = w.depth();
  const int64_t row = blockIdx.x / beside * Tile::kM, column = blockIdx.x % beside * Tile::kN;
  const int64_t begin = w.rows * blockIdx.y / gridDim.y;
  const int64_t end = w.rows * (blockIdx.y + 1) / gridDim.y;
  WindowColumnsOf<T, Tile, kVec> left(w, x, row, begin, end);
  MatrixRowsOf<T, Tile, kVec> right(dy, n, column, begin, end);
  T sums[Tile::kTM][Tile::kTN] = {};
  multiply_tiles<T, Tile>(left, right, end - begin, rounds, sums);
  const int down = static_cast<int>(threadIdx.x) / Tile::kAcross;
#pragma unroll
  for (int i = 0; i < Tile::kTM; ++i) {
    const int64_t r = row + element_of<T, Tile::kM, Tile::kTM>(down, i);
    if (r >= m) continue;
    put_line<T, Tile, kVec>(sums[i], c + (blockIdx.y * m + r) * n, nullptr, column, n, add);
  }
}

// c (+)= the chunks' parts, in order.
template <class T>
void add_chunks(Cuda on, const T* partial, int64_t chunks, int64_t size, T* c, bool add) {
  launch_each(on, size, [=] __device__(int64_t i) {
    T sum = partial[i];
#pragma unroll 8
    for (int64_t chunk = 1; chunk < chunks; ++chunk) sum += partial[chunk * size + i];
    c[i] = add ? c[i] + sum : sum;
  });
}

template <class Tile>
int64_t tiles_of(int64_t m, int64_t n) {
  return ((m + Tile::kM - 1) / Tile::kM) * ((n + Tile::kN - 1) / Tile::kN);
}

// Calls body.operator()<Tile, kVec>(). f64, and rows that forbid 16-byte accesses, have small tiles
// only.
template <class T, class Body>
void with_window_tile(bool packed, bool large, bool tall, Body&& body) {
  if (!packed) return body.template operator()<Small, 1>();
  if constexpr (std::is_same_v<T, float>) {
    if (large) return body.template operator()<Large, kPack<T>>();
    if (tall) return body.template operator()<Tall, kPack<T>>();
  }
  body.template operator()<Small, kPack<T>>();
}

void check_sizes(bool is_float, const Windows& w, Precision precision) {
  check(precision == Precision::kF32 || is_float, ErrorKind::kDtype,
        "a product in bf16 or tf32 takes f32, not f64");
  constexpr int64_t kMost = int64_t{1} << 28;  // so that a tap beside the picture is an int, too
  check(std::max({w.in_h, w.in_w, w.out_h * w.stride, w.out_w * w.stride, w.channels}) <= kMost &&
            w.taps.size() <= kMostTaps,
        ErrorKind::kShape, "pictures of ", w.in_h, " x ", w.in_w, " x ", w.channels, " and ",
        w.taps.size(), " taps are too large for a convolution on CUDA");
}

}  // namespace

WindowShape::WindowShape(const Windows& from)
    : in_h(static_cast<int>(from.in_h)),
      in_w(static_cast<int>(from.in_w)),
      out_h(static_cast<int>(from.out_h)),
      out_w(static_cast<int>(from.out_w)),
      stride(static_cast<int>(from.stride)),
      channels(static_cast<int>(from.channels)),
      taps(static_cast<int>(from.taps.size())),
      rows(from.rows()) {
  for (size_t i = 0; i < from.taps.size(); ++i) {
    tap_y[i] = static_cast<int>(from.taps[i].y);
    tap_x[i] = static_cast<int>(from.taps[i].x);
    tap_block[i] = static_cast<int>(from.taps[i].block);
  }
}

template <class T>
void window_product(Cuda on, const Windows& windows, const T* x, Trans tb, const T* weight,
                    int64_t n, T* c, const Placement& place, GradWrite write, const T* bias,
                    Precision precision) {
  check_sizes(std::is_same_v<T, float>, windows, precision);
  const WindowShape w(windows);
  if (w.rows == 0 || n == 0) return;
  const Output<T> to{c,          bias,     place.h,  place.w,
                     place.step, place.y0, place.x0, write == GradWrite::kAccumulate};
  const bool packed = packable<T>(n, weight, c, bias) && packable<T>(w.channels, x);
  with_window_tile<T>(
      packed, n > Tall::kN && tiles_of<Large>(w.rows, n) >= kManyBlocks,
      n <= Tall::kN && tiles_of<Tall>(w.rows, n) >= kManyBlocks, [&]<class Tile, int kVec>() {
        const auto kernel = tb == Trans::kNo ? product_kernel<T, Tile, kVec, Trans::kNo>
                                             : product_kernel<T, Tile, kVec, Trans::kYes>;
        launch(on, blocks_for(tiles_of<Tile>(w.rows, n), 1), Tile::kThreads, kernel, w, x, weight,
               n, to, precision == Precision::kBf16);
      });
}

template <class T>
void window_product_transposed(Cuda on, const Windows& windows, const T* x, const T* dy, int64_t n,
                               T* c, GradWrite write, Precision precision) {
  check_sizes(std::is_same_v<T, float>, windows, precision);
  const WindowShape w(windows);
  const int64_t m = w.depth(), size = m * n;
  if (size == 0) return;
  const bool packed = packable<T>(n, dy, c) && packable<T>(w.channels, x);
  const bool add = write == GradWrite::kAccumulate, high = m > Small::kM;
  with_window_tile<T>(packed, high && n > Tall::kN, high, [&]<class Tile, int kVec>() {
    const int64_t tiles = tiles_of<Tile>(m, n);
    const int64_t wanted = (kGradientBlocks + tiles - 1) / tiles;
    const int64_t chunks = std::clamp(w.rows / kChunkRows, int64_t{1}, wanted);
    T* partial =
        chunks == 1
            ? c
            : static_cast<T*>(cuda_workspace(chunks * size * static_cast<int64_t>(sizeof(T))));
    launch(on, dim3(blocks_for(tiles, 1), static_cast<unsigned>(chunks)), Tile::kThreads,
           transposed_kernel<T, Tile, kVec>, w, x, dy, n, partial, chunks == 1 && add,
           precision == Precision::kBf16);
    if (chunks == 1) return;
    add_chunks(on, partial, chunks, size, c, add);
  });
}

template void window_product(Cuda, const Windows&, const float*, Trans, const float*, int64_t,
                             float*, const Placement&, GradWrite, const float*, Precision);
template void window_product(Cuda, const Windows&, const double*, Trans, const double*, int64_t,
                             double*, const Placement&, GradWrite, const double*, Precision);
template void window_product_transposed(Cuda, const Windows&, const float*, const float*, int64_t,
                                        float*, GradWrite, Precision);
template void window_product_transposed(Cuda, const Windows&, const double*, const double*, int64_t,
                                        double*, GradWrite, Precision);

}  // namespace engine::kernels
