#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/core/simd_gelu.h"
#include "engine/core/workspace.h"
#include "engine/ops/linear_kernels.h"

namespace engine::kernels {
namespace {
constexpr int64_t kGrain = int64_t{1} << 14;  // a multiple of every register's lanes
}  // namespace

template <class T>
void gelu_backward(Cpu, const T* z, const T* dh, T* dz, int64_t count, GeluForm form) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    simd::for_lanes<T>(end - begin, [&](int64_t i, int64_t n) {
      const auto slope = simd::gelu_slope<T>(simd::load_n(z + begin + i, n), form);
      simd::store_n(dz + begin + i, simd::mul(simd::load_n(dh + begin + i, n), slope), n);
    });
  });
}

template <class T>
void add_column_sums(Cpu, const T* x, const int32_t* offset, int64_t groups, RowsCols size,
                     T* sums) {
  const int64_t cols = size.cols;
  const int32_t all[2] = {0, static_cast<int32_t>(size.rows)};
  if (offset == nullptr) offset = all;
  // The chunks of a group depend on its own rows only.
  const int64_t chunks = groups == 1 ? kReduceChunks : 4;
  T* partial = workspace<T>(0, groups * chunks * cols);
  parallel_tasks(groups * chunks, [=](int64_t t) {
    const int64_t g = t / chunks, c = t % chunks, rows = offset[g + 1] - offset[g];
    T* out = partial + t * cols;
    std::fill(out, out + cols, T(0));
    for (int64_t r = rows * c / chunks; r < rows * (c + 1) / chunks; ++r) {
      const T* in = x + (offset[g] + r) * cols;
      simd::for_lanes<T>(cols, [&](int64_t i, int64_t n) {
        simd::store_n(out + i, simd::add(simd::load_n(out + i, n), simd::load_n(in + i, n)), n);
      });
    }
  });
  for (int64_t t = 0; t < groups * chunks; ++t) {
    T* out = sums + t / chunks * cols;
    for (int64_t i = 0; i < cols; ++i) out[i] += partial[t * cols + i];
  }
}

template <class T>
void add_into(Cpu, const T* x, T* y, int64_t count) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    simd::for_lanes<T>(end - begin, [&](int64_t i, int64_t n) {
      T* at = y + begin + i;
      simd::store_n(at, simd::add(simd::load_n(at, n), simd::load_n(x + begin + i, n)), n);
    });
  });
}

template void gelu_backward(Cpu, const float*, const float*, float*, int64_t, GeluForm);
template void gelu_backward(Cpu, const double*, const double*, double*, int64_t, GeluForm);
template void add_column_sums(Cpu, const float*, const int32_t*, int64_t, RowsCols, float*);
template void add_column_sums(Cpu, const double*, const int32_t*, int64_t, RowsCols, double*);
template void add_into(Cpu, const float*, float*, int64_t);
template void add_into(Cpu, const double*, double*, int64_t);

}  // namespace engine::kernels
