#include <cmath>
#include <cstring>
#include <vector>

#include "engine/core/precision.h"
#include "tests/cuda_emulator/cublasLt.h"

namespace {

double element(const void* data, cudaDataType type, int64_t at) {
  switch (type) {
    case CUDA_R_64F:
      return static_cast<const double*>(data)[at];
    case CUDA_R_16BF:
      return engine::to_float(static_cast<const engine::bf16*>(data)[at]);
    default:
      return static_cast<const float*>(data)[at];
  }
}
void put(void* data, cudaDataType type, int64_t at, double value) {
  switch (type) {
    case CUDA_R_64F:
      static_cast<double*>(data)[at] = value;
      return;
    case CUDA_R_16BF:
      static_cast<engine::bf16*>(data)[at] = engine::to_bf16(static_cast<float>(value));
      return;
    default:
      static_cast<float*>(data)[at] = static_cast<float>(value);
  }
}
// 10 bits of mantissa, as tensor cores take f32.
float to_tf32(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x0fffu + ((bits >> 13) & 1u)) & 0xffffe000u);
}

bool applies_gelu(const cublasLtMatmulDescOpaque_t& op) {
  return (op.epilogue & CUBLASLT_EPILOGUE_GELU_AUX) == CUBLASLT_EPILOGUE_GELU_AUX;
}
bool applies_slope(const cublasLtMatmulDescOpaque_t& op) {
  return (op.epilogue & CUBLASLT_EPILOGUE_DGELU) == CUBLASLT_EPILOGUE_DGELU;
}
bool sums_rows(const cublasLtMatmulDescOpaque_t& op) {
  return (op.epilogue & CUBLASLT_EPILOGUE_BGRADA) != 0;
}
bool more_than_a_bias(const cublasLtMatmulDescOpaque_t& op) {
  return applies_gelu(op) || applies_slope(op) || sums_rows(op);
}
double gelu_slope(double x) {
  const double t = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}
double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

struct Call {
  cublasLtMatmulDescOpaque_t op;
  cublasLtMatrixLayoutOpaque_t a, b, c, d;
  const void *pa, *pb, *pc;
  void* pd;
  double alpha, beta;
};

// Rows `m`, columns `n` of the column-major result; one chain over k for each element.
template <class Sum>
void multiply(const Call& call, int64_t z) {
  const bool ta = call.op.ta == CUBLAS_OP_T, tb = call.op.tb == CUBLAS_OP_T;
  const auto m = static_cast<int64_t>(call.d.rows), n = static_cast<int64_t>(call.d.cols);
  const auto k = static_cast<int64_t>(ta ? call.a.rows : call.a.cols);
  const bool tf32 = call.op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const auto rounded = [tf32](double x) {
    return static_cast<Sum>(tf32 ? static_cast<double>(to_tf32(static_cast<float>(x))) : x);
  };
  std::vector<Sum> a(static_cast<size_t>(m * k)), column(static_cast<size_t>(m));
  for (int64_t p = 0; p < k; ++p) {
    for (int64_t i = 0; i < m; ++i) {
      const int64_t at = z * call.a.stride + (ta ? p + i * call.a.ld : i + p * call.a.ld);
      a[static_cast<size_t>(p * m + i)] = rounded(element(call.pa, call.a.type, at));
    }
  }
  if (sums_rows(call.op)) {
    for (int64_t i = 0; i < m; ++i) {
      Sum sum = 0;
      for (int64_t p = 0; p < k; ++p) sum += a[static_cast<size_t>(p * m + i)];
      put(const_cast<void*>(call.op.bias), call.d.type, i, static_cast<double>(sum));
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    std::fill(column.begin(), column.end(), Sum(0));
    for (int64_t p = 0; p < k; ++p) {
      const int64_t at = z * call.b.stride + (tb ? j + p * call.b.ld : p + j * call.b.ld);
      const Sum y = rounded(element(call.pb, call.b.type, at));
      const Sum* from = a.data() + p * m;
      for (int64_t i = 0; i < m; ++i) column[static_cast<size_t>(i)] += from[i] * y;
    }
    for (int64_t i = 0; i < m; ++i) {
      double value = call.alpha * static_cast<double>(column[static_cast<size_t>(i)]);
      const int64_t at_c = z * call.c.stride + i + j * call.c.ld;
      if (call.beta != 0) value += call.beta * element(call.pc, call.c.type, at_c);
      if ((call.op.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) {
        value += element(call.op.bias, call.d.type, i);
      }
      if (applies_gelu(call.op)) {
        put(call.op.aux, call.d.type, i + j * call.op.aux_ld, value);
        value = gelu(value);
      }
      if (applies_slope(call.op)) {
        value *= gelu_slope(element(call.op.aux, call.d.type, i + j * call.op.aux_ld));
      }
      put(call.pd, call.d.type, z * call.d.stride + i + j * call.d.ld, value);
    }
  }
}

// A bf16 result is for bf16 operands and sums in f32. GELU, its slope and sums of rows have no
// algorithm for fewer than 16 rows: so tests see both what is done with them and without.
bool supported(const cublasLtMatmulDescOpaque_t& op, const cublasLtMatrixLayoutOpaque_t& a,
               const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& d) {
  const bool small = a.type == CUDA_R_16BF && b.type == CUDA_R_16BF &&
                     op.compute == CUBLAS_COMPUTE_32F && op.scale == CUDA_R_32F;
  if (d.type == CUDA_R_16BF && !small) return false;
  return !more_than_a_bias(op) || (d.rows >= 16 && d.batch == 1);
}
bool consistent(const Call& call) {
  const int64_t aux_ld = call.op.aux_ld;
  if (sums_rows(call.op) && call.op.bias == nullptr) return false;
  if ((applies_gelu(call.op) || applies_slope(call.op)) &&
      (call.op.aux == nullptr || aux_ld % 8 != 0 || aux_ld < static_cast<int64_t>(call.d.rows))) {
    return false;
  }

  const bool ta = call.op.ta == CUBLAS_OP_T, tb = call.op.tb == CUBLAS_OP_T;
  const uint64_t m = ta ? call.a.cols : call.a.rows, ka = ta ? call.a.rows : call.a.cols;
  const uint64_t n = tb ? call.b.rows : call.b.cols, kb = tb ? call.b.cols : call.b.rows;
  const auto leads = [](const cublasLtMatrixLayoutOpaque_t& l) {
    return l.ld >= static_cast<int64_t>(l.rows);
  };
  return ka == kb && m == call.d.rows && n == call.d.cols && call.c.rows == m && call.c.cols == n &&
         leads(call.a) && leads(call.b) && leads(call.c) && leads(call.d) &&
         call.a.batch == call.d.batch && call.b.batch == call.d.batch;
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t) { return "reported by the CUDA emulator"; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t desc, cublasComputeType_t compute,
                                      cudaDataType scale) {
  *desc = {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr,
           nullptr, 0};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      std::memcpy(&desc->ta, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      std::memcpy(&desc->tb, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      std::memcpy(&desc->epilogue, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      std::memcpy(&desc->bias, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      std::memcpy(&desc->aux, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      std::memcpy(&desc->aux_ld, value, bytes);
      break;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type,
                                        uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = {type, rows, cols, ld, 1, 0};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) std::memcpy(&layout->batch, value, bytes);
  if (attribute == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET) {
    std::memcpy(&layout->stride, value, bytes);
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  *count = 0;
  if (!supported(*desc, *a, *b, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t*,
                                       cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  return supported(*desc, *a, *b, *d) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void*,
                              size_t, cudaStream_t stream) {
  const Call call{*desc,
                  *a_layout,
                  *b_layout,
                  *c_layout,
                  *d_layout,
                  a,
                  b,
                  c,
                  d,
                  element(alpha, desc->scale, 0),
                  element(beta, desc->scale, 0)};
  if (!consistent(call)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!supported(call.op, call.a, call.b, call.d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  cuda_emulator::enqueue(stream, [call] {
    for (int64_t z = 0; z < call.d.batch; ++z) {
      if (call.d.type == CUDA_R_64F) {
        multiply<double>(call, z);
      } else {
        multiply<float>(call, z);
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
