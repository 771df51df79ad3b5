#pragma once

#include "engine/gemm/gemm.h"

// The products of gemm.h in bf16: operands are rounded while they are packed, sums are f32.
namespace engine::kernels {

void gemm_bf16(Trans ta, Trans tb, GemmSize size, const float* a, int64_t lda, const float* b,
               int64_t ldb, float* c, int64_t ldc, GradWrite write,
               const Epilogue<float>& epilogue);
void gemm_serial_bf16(Trans ta, Trans tb, GemmSize size, const float* a, int64_t lda,
                      const float* b, int64_t ldb, float* c, int64_t ldc, GradWrite write);
void grouped_gemm_bf16(Trans tb, const int32_t* offset, int64_t groups, GemmSize size,
                       const float* a, const float* b, float* c, GradWrite write,
                       const Epilogue<float>& epilogue);
void grouped_gemm_transposed_bf16(const int32_t* offset, int64_t groups, GemmSize size,
                                  const float* a, const float* b, float* c, GradWrite write);

}  // namespace engine::kernels
