#include "engine/ops/batched_kernels.h"

namespace engine::kernels {

template <class T>
void batched_gemm(Cuda on, Trans ta, Trans tx, int64_t batch, GemmSize size, const T* a, const T* x,
                  T* c, GradWrite write, Precision precision) {
  const auto [m, n, k] = size;
  const int64_t lda = ta == Trans::kNo ? k : m, ldx = tx == Trans::kNo ? n : k;
  strided_gemm<T, T>(on, ta, tx, batch, size, {a, lda, m * k}, {x, ldx, k * n}, {c, n, m * n},
                     write, precision);
}

template void batched_gemm(Cuda, Trans, Trans, int64_t, GemmSize, const float*, const float*,
                           float*, GradWrite, Precision);
template void batched_gemm(Cuda, Trans, Trans, int64_t, GemmSize, const double*, const double*,
                           double*, GradWrite, Precision);
template void batched_gemm(Cuda, Trans, Trans, int64_t, GemmSize, const bf16*, const bf16*, bf16*,
                           GradWrite, Precision);

}  // namespace engine::kernels
