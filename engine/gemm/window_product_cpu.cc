#include "engine/gemm/window_product.h"

#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/core/workspace.h"
#include "engine/gemm/blocked_product.h"
#include "engine/gemm/tile_choice.h"
#include "engine/gemm/window_rows.h"

namespace engine::kernels {
namespace {

// Rows of one task: its outputs stay in the second cache while block after block of k is added.
constexpr int64_t kWindowRows = 192;
// Weights' gradients up to this size are summed up chunk by chunk of rows; of larger ones, which
// have few rows, each task has its own part and takes all rows.
constexpr int64_t kSmallGradient = 768 << 10;
constexpr int64_t kGradientChunks = 16;
constexpr int64_t kChunkRows = 1024;

template <class T>
void put_rows(const T* from, int64_t n, PixelWalk pixel, int64_t rows, T* c, const Placement& place,
              GradWrite write) {
  for (int64_t r = 0; r < rows; ++r, pixel.next()) {
    T* to = c + pixel.placed(place) * n;
    simd::for_lanes<T>(n, [&](int64_t i, int64_t lanes) {
      simd::put_n(to + i, simd::load_n(from + r * n + i, lanes), lanes,
                  write == GradWrite::kAccumulate);
    });
  }
}

template <class T, class Tile>
void product(const Windows& w, const T* x, Trans tb, const T* weight, int64_t n, T* c,
             const Placement& place, GradWrite write, const T* bias) {
  const int64_t rows = w.rows(), k = w.depth(), channels = w.channels;
  const int64_t panels = pieces_of(n, Tile::kCols);
  if (rows == 0 || n == 0) return;
  T* const packed = workspace<T>(0, panels * k * Tile::kCols);
  const auto taps = static_cast<int64_t>(w.taps.size());
  parallel_tasks(panels * taps, [&](int64_t t) {
    const int64_t panel = t / taps, tap = t % taps;
    const T* block = weight + w.taps[static_cast<size_t>(tap)].block * channels * n;
    pack_panel<T, Tile>(operand(tb, block, tb == Trans::kNo ? n : channels), n, panel * Tile::kCols,
                        0, channels, packed + (panel * k + tap * channels) * Tile::kCols);
  });
  const int64_t size =
      std::min(kWindowRows, piece_size(rows, tasks_wanted(), int64_t{Tile::kRows}));
  Epilogue<T> epilogue;
  epilogue.bias = bias;
  const bool whole = place.step == 1;  // output pixels lie one after the other
  parallel_tasks(
      pieces_of(rows, size),
      [&](int64_t t) {
        const int64_t begin = t * size, count = std::min(size, rows - begin);
        T* const to = whole ? c + begin * n : workspace<T>(1, kWindowRows * n);
        multiply_packed<T, Tile>(WindowRows<T>{w, x, begin}, 0, count, n, k, packed, 0, panels, to,
                                 n, whole ? write : GradWrite::kOverwrite, epilogue, count);
        if (!whole) put_rows(to, n, PixelWalk(w, begin), count, c, place, write);
      },
      [&] {
        if (!whole) workspace<T>(1, kWindowRows * n);
      });
}

// c [m_begin, m_end) of a part of the rows, [p_begin, p_end), on this thread.
template <class T, class Tile>
void multiply_transposed(const WindowRows<T>& a, const T* dy, int64_t m_begin, int64_t m_end,
                         int64_t p_begin, int64_t p_end, int64_t n, T* c, bool accumulate) {
  constexpr int64_t kRows = Tile::kRows, kCols = Tile::kCols;
  constexpr int64_t kPacked = std::max<int64_t>(64 / sizeof(T), kRows);
  const int64_t channels = a.windows.channels, panels = pieces_of(n, kCols);
  const int64_t together = panels_together<T, Tile>(panels, kDepth);
  T* const packed = workspace<T>(1, together * kDepth * kCols);
  T* const strips = workspace<T>(2, kPacked * kDepth);
  alignas(64) T tile[kRows * kCols];
  int64_t offset[kDepth];
  int64_t p = p_begin;
  do {
    const int64_t depth = std::min(kDepth, p_end - p);
    const bool add = accumulate || p > p_begin;
    for (int64_t first = 0; first < panels; first += together) {
      const int64_t last = std::min(panels, first + together);
      for (int64_t panel = first; panel < last; ++panel) {
        pack_panel<T, Tile>(operand(Trans::kNo, dy, n), n, panel * kCols, p, depth,
                            packed + (panel - first) * kDepth * kCols);
      }
      int64_t known = -1;  // the tap that `offset` is of
      for (int64_t m = m_begin; m < m_end; m += kPacked) {
        const int64_t count = std::min(kPacked, m_end - m);
        for (int64_t i = 0; i < count;) {
          const int64_t tap = (m + i) / channels, channel = (m + i) % channels;
          const int64_t same = std::min(count - i, channels - channel);
          if (tap != known) tap_offsets(a, tap, p, depth, offset);
          known = tap;
          pack_columns<T, Tile::kRows>(a.x, offset, channel, same, depth, i, strips);
          i += same;
        }
        if constexpr (Tile::kRounds) round_to_bf16(strips, pieces_of(count, kRows) * kRows * depth);
        for (int64_t i = 0; i < count; i += kRows) {
          const Operand<T> here{strips + i * depth, 1, kRows};
          for (int64_t panel = first; panel < last; ++panel) {
            const int64_t j = panel * kCols;
            const T* packed_b = packed + (panel - first) * kDepth * kCols;
            multiply_to<T, Tile>(std::min(kRows, count - i), std::min(kCols, n - j), depth, here,
                                 packed_b, {packed_b, 0}, tile,
                                 {c + (m + i) * n + j, n, add, false, {}});
          }
        }
      }
    }
    p += kDepth;
  } while (p < p_end);
}

template <class T, class Tile>
void transposed_product(const Windows& w, const T* x, const T* dy, int64_t n, T* c,
                        GradWrite write) {
  const int64_t rows = w.rows(), m = w.depth(), size = m * n;
  if (size == 0) return;
  const WindowRows<T> a{w, x};
  const auto prepare = [&] { prepare_packing<T, Tile>(pieces_of(n, Tile::kCols)); };
  if (size * static_cast<int64_t>(sizeof(T)) > kSmallGradient) {
    const int64_t piece = piece_size(m, std::max<int64_t>(8, num_threads()), Tile::kRows);
    return parallel_tasks(
        pieces_of(m, piece),
        [&](int64_t t) {
          multiply_transposed<T, Tile>(a, dy, t * piece, std::min(m, (t + 1) * piece), 0, rows, n,
                                       c, write == GradWrite::kAccumulate);
        },
        prepare);
  }
  const int64_t chunks = std::clamp(pieces_of(rows, kChunkRows), int64_t{1}, kGradientChunks);
  T* const partial = workspace<T>(0, chunks * size);
  parallel_tasks(
      chunks,
      [&](int64_t t) {
        multiply_transposed<T, Tile>(a, dy, 0, m, rows * t / chunks, rows * (t + 1) / chunks, n,
                                     partial + t * size, false);
      },
      prepare);
  parallel_for(size, rows_per_grain(chunks), [=](int64_t begin, int64_t end) {
    simd::for_lanes<T>(end - begin, [&](int64_t i, int64_t lanes) {
      simd::Packet<T> sum = simd::load_n(partial + begin + i, lanes);
      for (int64_t t = 1; t < chunks; ++t) {
        sum = simd::add(sum, simd::load_n(partial + t * size + begin + i, lanes));
      }
      simd::put_n(c + begin + i, sum, lanes, write == GradWrite::kAccumulate);
    });
  });
}

void check_precision_of(bool is_float, Precision precision) {
  check(precision == Precision::kF32 || is_float, ErrorKind::kDtype,
        "a product in bf16 takes f32, not f64");
  check(precision != Precision::kTf32, ErrorKind::kDevice, "tf32 is for CUDA devices");
}

}  // namespace

template <class T>
void window_product(Cpu, const Windows& windows, const T* x, Trans tb, const T* weight, int64_t n,
                    T* c, const Placement& place, GradWrite write, const T* bias,
                    Precision precision) {
  check_precision_of(std::is_same_v<T, float>, precision);
  with_tile<T>(precision, [&]<class Tile>(Tile) {
    product<T, Tile>(windows, x, tb, weight, n, c, place, write, bias);
  });
}

template <class T>
void window_product_transposed(Cpu, const Windows& windows, const T* x, const T* dy, int64_t n,
                               T* c, GradWrite write, Precision precision) {
  check_precision_of(std::is_same_v<T, float>, precision);
  with_tile<T>(precision,
               [&]<class Tile>(Tile) { transposed_product<T, Tile>(windows, x, dy, n, c, write); });
}

template void window_product(Cpu, const Windows&, const float*, Trans, const float*, int64_t,
                             float*, const Placement&, GradWrite, const float*, Precision);
template void window_product(Cpu, const Windows&, const double*, Trans, const double*, int64_t,
                             double*, const Placement&, GradWrite, const double*, Precision);
template void window_product_transposed(Cpu, const Windows&, const float*, const float*, int64_t,
                                        float*, GradWrite, Precision);
template void window_product_transposed(Cpu, const Windows&, const double*, const double*, int64_t,
                                        double*, GradWrite, Precision);

}  // namespace engine::kernels
