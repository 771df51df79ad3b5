#include <algorithm>
#include <cmath>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/core/workspace.h"
#include "engine/ops/batch_norm_kernels.h"

namespace engine::kernels {
namespace {

using simd::load_n;
using simd::Packet;
using simd::set;

// Rows that are read twice while they are in the first cache.
int64_t block_rows(int64_t cols) { return std::max<int64_t>(4, 4096 / cols); }

// mean, m2 (sum of squares around the mean) of n rows <- merged with those of `count` further rows.
template <class T>
void merge(Packet<T>& mean, Packet<T>& m2, int64_t n, const Packet<T>& new_mean,
           const Packet<T>& new_m2, int64_t count) {
  const T share = static_cast<T>(static_cast<double>(count) / static_cast<double>(n + count));
  const Packet<T> shift = simd::sub(new_mean, mean);
  mean = simd::fma(shift, set(share), mean);
  const Packet<T> square = simd::mul(shift, shift);
  m2 = simd::add(m2, simd::fma(square, set(static_cast<T>(n) * share), new_m2));
}

// Adds rows [begin, end) to mean and m2 (cols each), which hold `n` rows.
template <class T>
void add_block(const T* x, int64_t begin, int64_t end, int64_t cols, T* mean, T* m2, int64_t n) {
  const int64_t count = end - begin;
  const T share = T(1) / static_cast<T>(count);
  simd::for_lanes<T>(cols, [&](int64_t i, int64_t lanes) {
    Packet<T> sum = set(T(0)), squares = set(T(0));
    for (int64_t r = begin; r < end; ++r) sum = simd::add(sum, load_n(x + r * cols + i, lanes));
    const Packet<T> here = simd::mul(sum, set(share));
    for (int64_t r = begin; r < end; ++r) {
      const Packet<T> d = simd::sub(load_n(x + r * cols + i, lanes), here);
      squares = simd::fma(d, d, squares);
    }
    Packet<T> all_mean = load_n(mean + i, lanes), all_m2 = load_n(m2 + i, lanes);
    merge<T>(all_mean, all_m2, n, here, squares, count);
    simd::store_n(mean + i, all_mean, lanes);
    simd::store_n(m2 + i, all_m2, lanes);
  });
}

// Lanes [i, i + n) of every column's numbers.
template <class T>
struct Lanes {
  Packet<T> mean, rstd, factor, bias;
  Lanes(const NormColumns<T>& c, int64_t i, int64_t n)
      : mean(load_n(c.mean + i, n)),
        rstd(load_n(c.rstd + i, n)),
        factor(simd::mul(rstd, load_n(c.scale + i, n))),
        bias(load_n(c.bias + i, n)) {}
  Packet<T> centred(const Packet<T>& x) const { return simd::sub(x, mean); }
  Packet<T> normed(const Packet<T>& centred_x) const { return simd::fma(centred_x, factor, bias); }
};

// Calls f(first row, last row, column, lanes, columns' numbers), a block of rows at a time, so that
// columns' numbers are read once a block.
template <class T, class F>
void for_blocks(int64_t begin, int64_t end, const NormColumns<T>& columns, int64_t cols, F&& f) {
  const int64_t step = block_rows(cols);
  for (int64_t first = begin; first < end; first += step) {
    const int64_t last = std::min(end, first + step);
    simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
      const Lanes<T> lanes(columns, i, n);
      f(first, last, i, n, lanes);
    });
  }
}

template <class T>
Packet<T> gradient_of(const NormGradient<T>& from, const Lanes<T>& lanes, const Packet<T>& centred,
                      int64_t at, int64_t n) {
  const Packet<T> dy = load_n(from.dy + at, n);
  return from.relu ? simd::where_positive<T>(lanes.normed(centred), dy) : dy;
}

}  // namespace

template <class T>
void column_statistics(Cpu, const T* x, T* mean, T* var, RowsCols size) {
  const auto [rows, cols] = size;
  const int64_t all = rows, width = cols;
  T* const partial = workspace<T>(0, kReduceChunks * 2 * cols);  // (chunk, mean | m2, cols)
  parallel_tasks(kReduceChunks, [=](int64_t chunk) {
    T* const m = partial + chunk * 2 * width;
    std::fill(m, m + 2 * width, T(0));
    const ChunkRange range = reduce_chunk(all, chunk);
    const int64_t step = block_rows(width);
    for (int64_t r = range.begin; r < range.end; r += step) {
      add_block(x, r, std::min(range.end, r + step), width, m, m + width, r - range.begin);
    }
  });
  std::fill(mean, mean + cols, T(0));
  std::fill(var, var + cols, T(0));
  for (int64_t chunk = 0; chunk < kReduceChunks; ++chunk) {
    const ChunkRange range = reduce_chunk(rows, chunk);
    if (range.begin == range.end) continue;
    const T* m = partial + chunk * 2 * cols;
    simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
      Packet<T> all_mean = load_n(mean + i, n), all_m2 = load_n(var + i, n);
      merge<T>(all_mean, all_m2, range.begin, load_n(m + i, n), load_n(m + width + i, n),
               range.end - range.begin);
      simd::store_n(mean + i, all_mean, n);
      simd::store_n(var + i, all_m2, n);
    });
  }
  const T share = T(1) / static_cast<T>(rows);
  for (int64_t c = 0; c < cols; ++c) var[c] *= share;
}

template <class T>
void rstd_of(Cpu, const T* var, T* rstd, int64_t cols, double eps) {
  for (int64_t c = 0; c < cols; ++c) rstd[c] = T(1) / std::sqrt(var[c] + static_cast<T>(eps));
}

template <class T>
void move_average(Cpu, const T* from, double factor, double momentum, T* to, int64_t cols) {
  const T keep = static_cast<T>(1 - momentum), take = static_cast<T>(momentum * factor);
  for (int64_t c = 0; c < cols; ++c) to[c] = keep * to[c] + take * from[c];
}

template <class T>
void batch_norm_forward(Cpu, const T* x, const NormColumns<T>& columns, const T* residual,
                        bool relu, T* y, RowsCols size) {
  const int64_t cols = size.cols;
  parallel_for(size.rows, rows_per_grain(cols), [=](int64_t begin, int64_t end) {
    for_blocks<T>(begin, end, columns, cols,
                  [=](int64_t first, int64_t last, int64_t i, int64_t n, const Lanes<T>& lanes) {
                    for (int64_t at = first * cols + i; at < last * cols; at += cols) {
                      Packet<T> v = lanes.normed(lanes.centred(load_n(x + at, n)));
                      if (residual != nullptr) v = simd::add(v, load_n(residual + at, n));
                      simd::store_n(y + at, relu ? simd::relu<T>(v) : v, n);
                    }
                  });
  });
}

template <class T>
void batch_norm_sums(Cpu, const NormGradient<T>& from, T* sums) {
  const int64_t cols = from.size.cols, rows = from.size.rows;
  T* const partial = workspace<T>(0, kReduceChunks * 2 * cols);  // (chunk, g | g (x - mean), cols)
  parallel_tasks(kReduceChunks, [=](int64_t chunk) {
    T* const to = partial + chunk * 2 * cols;
    std::fill(to, to + 2 * cols, T(0));
    const ChunkRange range = reduce_chunk(rows, chunk);
    for_blocks<T>(range.begin, range.end, from.columns, cols,
                  [=](int64_t first, int64_t last, int64_t i, int64_t n, const Lanes<T>& lanes) {
                    Packet<T> sum = set(T(0)), product = set(T(0));
                    for (int64_t at = first * cols + i; at < last * cols; at += cols) {
                      const Packet<T> centred = lanes.centred(load_n(from.x + at, n));
                      const Packet<T> g = gradient_of(from, lanes, centred, at, n);
                      sum = simd::add(sum, g);
                      product = simd::fma(g, centred, product);
                    }
                    simd::put_n(to + i, sum, n, true);
                    simd::put_n(to + cols + i, product, n, true);
                  });
  });
  std::copy_n(partial, 2 * cols, sums);
  for (int64_t chunk = 1; chunk < kReduceChunks; ++chunk) {
    const T* more = partial + chunk * 2 * cols;
    for (int64_t c = 0; c < 2 * cols; ++c) sums[c] += more[c];
  }
}

template <class T>
void batch_norm_input_gradient(Cpu, const NormGradient<T>& from, const T* sums, T* dx,
                               GradWrite write) {
  const int64_t cols = from.size.cols;
  const bool add = write == GradWrite::kAccumulate;
  const Packet<T> share = set(T(1) / static_cast<T>(from.size.rows));
  parallel_for(from.size.rows, rows_per_grain(cols), [=](int64_t begin, int64_t end) {
    for_blocks<T>(begin, end, from.columns, cols,
                  [=](int64_t first, int64_t last, int64_t i, int64_t n, const Lanes<T>& lanes) {
                    Packet<T> mean_g = set(T(0)), slope = set(T(0));
                    if (sums != nullptr) {
                      mean_g = simd::mul(load_n(sums + i, n), share);
                      slope = simd::mul(simd::mul(load_n(sums + cols + i, n), share),
                                        simd::mul(lanes.rstd, lanes.rstd));
                    }
                    for (int64_t at = first * cols + i; at < last * cols; at += cols) {
                      const Packet<T> centred = lanes.centred(load_n(from.x + at, n));
                      Packet<T> g = gradient_of(from, lanes, centred, at, n);
                      if (sums != nullptr)
                        g = simd::sub(simd::sub(g, mean_g), simd::mul(centred, slope));
                      simd::put_n(dx + at, simd::mul(g, lanes.factor), n, add);
                    }
                  });
  });
}

template <class T>
void batch_norm_param_gradients(Cpu, const T* sums, const T* rstd, T* dscale, T* dbias,
                                int64_t cols) {
  for (int64_t c = 0; dscale != nullptr && c < cols; ++c) dscale[c] += sums[cols + c] * rstd[c];
  for (int64_t c = 0; dbias != nullptr && c < cols; ++c) dbias[c] += sums[c];
}

template void column_statistics(Cpu, const float*, float*, float*, RowsCols);
template void rstd_of(Cpu, const float*, float*, int64_t, double);
template void move_average(Cpu, const float*, double, double, float*, int64_t);
template void batch_norm_forward(Cpu, const float*, const NormColumns<float>&, const float*, bool,
                                 float*, RowsCols);
template void batch_norm_sums(Cpu, const NormGradient<float>&, float*);
template void batch_norm_input_gradient(Cpu, const NormGradient<float>&, const float*, float*,
                                        GradWrite);
template void batch_norm_param_gradients(Cpu, const float*, const float*, float*, float*, int64_t);
template void column_statistics(Cpu, const double*, double*, double*, RowsCols);
template void rstd_of(Cpu, const double*, double*, int64_t, double);
template void move_average(Cpu, const double*, double, double, double*, int64_t);
template void batch_norm_forward(Cpu, const double*, const NormColumns<double>&, const double*,
                                 bool, double*, RowsCols);
template void batch_norm_sums(Cpu, const NormGradient<double>&, double*);
template void batch_norm_input_gradient(Cpu, const NormGradient<double>&, const double*, double*,
                                        GradWrite);
template void batch_norm_param_gradients(Cpu, const double*, const double*, double*, double*,
                                         int64_t);

}  // namespace engine::kernels
