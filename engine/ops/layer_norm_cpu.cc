#include <algorithm>
#include <cmath>

#include "engine/core/parallel.h"
#include "engine/core/simd.h"
#include "engine/core/workspace.h"
#include "engine/ops/layer_norm_kernels.h"

namespace engine::kernels {

using simd::load_n;
using simd::Packet;
using simd::set;

template <class T>
void layer_norm_forward(Cpu, const T* x, const T* scale, const T* bias, T* y, T* stats,
                        RowsCols size, double eps) {
  const int64_t cols = size.cols;
  const T share = T(1) / static_cast<T>(cols);
  parallel_for(size.rows, rows_per_grain(cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x + r * cols;
      T* out = y + r * cols;
      const T mean = share * simd::reduce_sum<T>(
                                 cols, [&](int64_t i, int64_t n) { return load_n(in + i, n); });
      // Missing lanes are loaded as the mean, so that they add nothing to the variance.
      const T var = share * simd::reduce_sum<T>(cols, [&](int64_t i, int64_t n) {
                      const Packet<T> d = simd::sub(load_n(in + i, n, mean), set(mean));
                      return simd::mul(d, d);
                    });
      const T rstd = T(1) / std::sqrt(var + static_cast<T>(eps));
      stats[2 * r] = mean;
      stats[2 * r + 1] = rstd;
      simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
        const Packet<T> norm = simd::mul(simd::sub(load_n(in + i, n), set(mean)), set(rstd));
        simd::store_n(out + i, simd::fma(norm, load_n(scale + i, n), load_n(bias + i, n)), n);
      });
    }
  });
}

namespace {

// One row: x, dy and (mean, rstd) of it.
template <class T>
struct NormRow {
  const T *in, *g;
  Packet<T> mean, rstd;
  int64_t cols;

  Packet<T> norm(int64_t i, int64_t n) const {
    return simd::mul(simd::sub(load_n(in + i, n), mean), rstd);
  }
  void add_to_params(T* dscale, T* dbias) const {
    simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
      simd::store_n(dscale + i, simd::fma(load_n(g + i, n), norm(i, n), load_n(dscale + i, n)), n);
      simd::store_n(dbias + i, simd::add(load_n(g + i, n), load_n(dbias + i, n)), n);
    });
  }
  void input_gradient(const T* scale, T* dx, bool add) const {
    const T share = T(1) / static_cast<T>(cols);
    Packet<T> sum_g = set(T(0)), sum_gn = set(T(0));
    simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
      const Packet<T> gs = simd::mul(load_n(g + i, n), load_n(scale + i, n));
      sum_g = simd::add(sum_g, gs);  // missing lanes: gs is 0 there, whatever norm is
      sum_gn = simd::fma(gs, norm(i, n), sum_gn);
    });
    const Packet<T> mean_g = set(T(share * simd::sum_lanes<T>(sum_g)));
    const Packet<T> mean_gn = set(T(share * simd::sum_lanes<T>(sum_gn)));
    simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
      const Packet<T> gs = simd::mul(load_n(g + i, n), load_n(scale + i, n));
      const Packet<T> inner = simd::sub(simd::sub(gs, mean_g), simd::mul(norm(i, n), mean_gn));
      simd::put_n(dx + i, simd::mul(inner, rstd), n, add);
    });
  }
};

}  // namespace

template <class T>
void layer_norm_backward(Cpu, const T* x, const T* scale, const T* stats, const T* dy,
                         RowsCols size, const LayerNormGrads<T>& to) {
  const int64_t cols = size.cols;
  const bool params = to.dscale != nullptr, add = to.write == GradWrite::kAccumulate;
  // (chunk, dscale | dbias, cols)
  T* partial = params ? workspace<T>(0, kReduceChunks * 2 * cols) : nullptr;
  parallel_tasks(kReduceChunks, [=](int64_t chunk) {
    T* const ds = params ? partial + chunk * 2 * cols : nullptr;
    if (params) std::fill(ds, ds + 2 * cols, T(0));
    const ChunkRange rows = reduce_chunk(size.rows, chunk);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const NormRow<T> row{x + r * cols, dy + r * cols, set(stats[2 * r]), set(stats[2 * r + 1]),
                           cols};
      if (params) row.add_to_params(ds, ds + cols);
      if (to.dx != nullptr) row.input_gradient(scale, to.dx + r * cols, add);
    }
  });
  for (int64_t chunk = 0; params && chunk < kReduceChunks; ++chunk) {
    const T* ds = partial + chunk * 2 * cols;
    for (int64_t c = 0; c < cols; ++c) to.dscale[c] += ds[c];
    for (int64_t c = 0; c < cols; ++c) to.dbias[c] += ds[cols + c];
  }
}

template void layer_norm_forward(Cpu, const float*, const float*, const float*, float*, float*,
                                 RowsCols, double);
template void layer_norm_forward(Cpu, const double*, const double*, const double*, double*, double*,
                                 RowsCols, double);
template void layer_norm_backward(Cpu, const float*, const float*, const float*, const float*,
                                  RowsCols, const LayerNormGrads<float>&);
template void layer_norm_backward(Cpu, const double*, const double*, const double*, const double*,
                                  RowsCols, const LayerNormGrads<double>&);

}  // namespace engine::kernels
