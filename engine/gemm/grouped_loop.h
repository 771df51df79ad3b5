#pragma once

#include "engine/gemm/gemm.h"

// Grouped products on a GPU as one product of gemm() a group, with offsets on the host: the
// reference form, which tests and the benchmark hold the kernels of grouped_gemm_cuda.cu against.
// A step cannot use it: the offsets are made on the device, and the host would wait for them.
namespace engine::kernels {

// As grouped_gemm(), but rows of no group stay as they are.
template <class In, class Out>
void grouped_gemm_loop(Cuda on, Trans tb, const int32_t* host_offset, int64_t groups, GemmSize size,
                       const In* a, const In* b, Out* c, GradWrite write,
                       const Epilogue<Out>& epilogue = {}, Precision precision = Precision::kF32) {
  const auto [all, n, k] = size;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = host_offset[g], rows = host_offset[g + 1] - begin;
    Epilogue<Out> e = epilogue;
    if (e.bias != nullptr) e.bias += g * n;
    if (e.residual != nullptr) e.residual += begin * n;
    if (e.activated != nullptr) e.activated += begin * n;
    if (e.slope_of != nullptr) e.slope_of += begin * n;
    gemm<In>(on, Trans::kNo, tb, {rows, n, k}, a + begin * k, k, b + g * k * n,
             tb == Trans::kNo ? n : k, c + begin * n, n, write, e, precision);
  }
}

// As grouped_gemm_transposed().
template <class In, class Out>
void grouped_gemm_transposed_loop(Cuda on, const int32_t* host_offset, int64_t groups,
                                  GemmSize size, const In* a, const In* b, Out* c, GradWrite write,
                                  Precision precision = Precision::kF32) {
  const auto [m, n, all] = size;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = host_offset[g], rows = host_offset[g + 1] - begin;
    gemm<In>(on, Trans::kYes, Trans::kNo, {m, n, rows}, a + begin * m, m, b + begin * n, n,
             c + g * m * n, n, write, {}, precision);
  }
}

}  // namespace engine::kernels
