#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "engine/core/cuda_check.h"
#include "engine/core/cuda_workspace.h"
#include "engine/gemm/gemm.h"

// How products are put to cuBLASLt, and which of its algorithms does them. CUDA sources only.
//
// f32 and f64 are IEEE: the "pedantic" compute types rule out TF32 and emulation whatever the
// environment asks for. kTf32 and kBf16 allow the tensor cores, with sums in f32.
//
// The row guarantee rests on the choice of algorithm. Where a is not transposed the algorithm is
// looked up for kPlanRows rows whatever m is, must fit any other m, and never splits k: so a row is
// computed by the same kernel over the same sequence of k in every batch. Where a is transposed (a
// weight's gradient, whose k is long) k may be split, and the parts are added in a step of their
// own, in order. Of strided batches the same holds for the number of matrices: it is looked up for
// kPlanBatch of them, must fit others, and never splits k. An algorithm is chosen once for a shape
// and kept, so runs repeat themselves.
namespace engine::kernels {

inline constexpr int64_t kPlanRows = 4096;
inline constexpr int64_t kOtherRows[] = {1, 7, 256, 65536};
inline constexpr int64_t kPlanBatch = 64, kMostBatch = 32768;
inline constexpr int64_t kOtherBatches[] = {1, 7, kMostBatch};
inline constexpr int kCandidates = 32;
inline constexpr int64_t kAlign = 16;  // widest single access of cuBLASLt's kernels

inline void check_lt(cublasStatus_t status, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
  if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]] {
    fail(Blame(ErrorKind::kCuda, file, line), "cuBLASLt: ", cublasLtGetStatusString(status));
  }
}

// What else cuBLASLt does: put gelu (tanh) of the result, which itself goes to extra_data; multiply
// the result by gelu' (tanh) of what lies there; put b's column sums there, which are of c's type.
enum class Extra : uint8_t { kNone, kGelu, kGeluSlope, kColumnSums };

// A product as gemm() is called, without its data.
struct Product {
  Trans ta, tb;
  GemmSize size;
  int64_t lda, ldb, ldc;
  bool is_f64;
  Precision precision;  // in bf16 a and b are stored so
  bool c_bf16;          // and c
  const void* bias;     // of c's type, added by cuBLASLt if not null
  Extra extra;
  void* extra_data;
  int64_t batch = 0;  // 0: one product; else strided ones
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;

  // Whether any number of rows must give the same bits.
  bool any_rows() const { return batch == 0 && ta == Trans::kNo; }
  bool may_split() const { return batch == 0 && ta == Trans::kYes; }
};

// cuBLASLt's description of a product. It is column-major and sees every stored row-major matrix
// transposed, so it is asked for c^T = op(b)^T op(a)^T: b comes first, the flags stay. The opaque
// structs live on the stack: a warm product allocates nothing.
struct Description {
  cublasLtMatmulDescOpaque_t op;
  cublasLtMatrixLayoutOpaque_t b, a, c;

  explicit Description(const Product& product) {
    const auto [m, n, k] = product.size;
    const cudaDataType type = product.is_f64 ? CUDA_R_64F : CUDA_R_32F;
    const cudaDataType out = product.c_bf16 ? CUDA_R_16BF : type;
    const cudaDataType in = product.precision == Precision::kBf16 ? CUDA_R_16BF : type;
    check_lt(cublasLtMatmulDescInit(&op, compute_type(product), type));
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.tb == Trans::kNo ? CUBLAS_OP_N : CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.ta == Trans::kNo ? CUBLAS_OP_N : CUBLAS_OP_T);
    if (product.bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
    if (product.extra == Extra::kColumnSums) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.extra_data);
    } else if (product.extra != Extra::kNone) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, product.extra_data);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, product.ldc);
    }
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(product));
    layout(&b, in, product.tb == Trans::kNo ? n : k, product.tb == Trans::kNo ? k : n, product.ldb);
    layout(&a, in, product.ta == Trans::kNo ? k : m, product.ta == Trans::kNo ? m : k, product.lda);
    layout(&c, out, n, m, product.ldc);
    if (product.batch > 0) {
      batched(&b, product.batch, product.stride_b);
      batched(&a, product.batch, product.stride_a);
      batched(&c, product.batch, product.stride_c);
    }
  }

 private:
  static cublasComputeType_t compute_type(const Product& product) {
    if (product.is_f64) return CUBLAS_COMPUTE_64F_PEDANTIC;
    switch (product.precision) {
      case Precision::kBf16:
        return CUBLAS_COMPUTE_32F;
      case Precision::kTf32:
        return CUBLAS_COMPUTE_32F_FAST_TF32;
      default:
        return CUBLAS_COMPUTE_32F_PEDANTIC;
    }
  }
  static cublasLtEpilogue_t epilogue_of(const Product& product) {
    const bool bias = product.bias != nullptr;
    switch (product.extra) {
      case Extra::kGelu:
        return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
      case Extra::kGeluSlope:
        return CUBLASLT_EPILOGUE_DGELU;
      case Extra::kColumnSums:  // its first operand is our b
        return CUBLASLT_EPILOGUE_BGRADA;
      default:
        return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
  }
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    check_lt(cublasLtMatmulDescSetAttribute(&op, attribute, &value, sizeof(value)));
  }
  static void layout(cublasLtMatrixLayout_t out, cudaDataType type, int64_t rows, int64_t cols,
                     int64_t ld) {
    check_lt(cublasLtMatrixLayoutInit(out, type, static_cast<uint64_t>(rows),
                                      static_cast<uint64_t>(cols), ld));
  }
  static void batched(cublasLtMatrixLayout_t out, int64_t batch, int64_t stride) {
    const auto count = static_cast<int32_t>(batch);
    check_lt(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                              sizeof(count)));
    check_lt(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                              &stride, sizeof(stride)));
  }
};

// The largest power of two, up to kAlign, that divides all addresses, and `stride` bytes.
inline uint32_t alignment_of(std::initializer_list<const void*> pointers, int64_t stride = 0) {
  uintptr_t bits = static_cast<uintptr_t>(kAlign | stride);
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return static_cast<uint32_t>(bits & (~bits + 1));
}

struct Alignments {
  uint32_t b, a, c;
};

struct Plan {
  cublasLtMatmulAlgo_t algo;
  bool adds_bias, does_extra;
};

// cuBLASLt's handle and the algorithms chosen so far. Used from the thread that launches kernels.
class Planner {
 public:
  Planner() {
    (void)cuda_backend();  // made first, so that it outlives the handle
    check_lt(cublasLtCreate(&handle_));
  }
  ~Planner() { (void)cublasLtDestroy(handle_); }
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;

  cublasLtHandle_t handle() const { return handle_; }

  const Plan& plan(const Product& product, const Alignments& align) {
    const GemmSize size = product.size;
    const Key key{product.is_f64,
                  static_cast<int64_t>(product.precision),
                  product.c_bf16,
                  product.bias != nullptr,
                  static_cast<int64_t>(product.extra),
                  static_cast<int64_t>(product.ta),
                  static_cast<int64_t>(product.tb),
                  product.any_rows() ? kPlanRows : size.m,
                  size.n,
                  size.k,
                  product.lda,
                  product.ldb,
                  product.ldc,
                  product.batch > 0,
                  product.stride_a,
                  product.stride_b,
                  product.stride_c,
                  align.b,
                  align.a,
                  align.c};
    const auto found = plans_.find(key);
    return found != plans_.end() ? found->second
                                 : plans_.emplace(key, choose(product, align)).first->second;
  }

 private:
  using Key = std::array<int64_t, 20>;

  // With as much of the epilogue as it has an algorithm for.
  Plan choose(Product product, const Alignments& align) const {
    const auto plan_of = [&]() -> std::optional<Plan> {
      const auto algo = first_fit(product, align);
      if (!algo.has_value()) return std::nullopt;
      return Plan{*algo, product.bias != nullptr, product.extra != Extra::kNone};
    };
    auto plan = plan_of();
    if (!plan.has_value() && product.extra != Extra::kNone) {
      product.extra = Extra::kNone;
      plan = plan_of();
    }
    if (!plan.has_value() && product.bias != nullptr) {
      product.bias = nullptr;
      plan = plan_of();
    }
    const GemmSize size = product.size;
    check(plan.has_value(), ErrorKind::kCuda, "cuBLASLt has no algorithm for the product (", size.m,
          ",", size.k, ") x (", size.k, ",", size.n, ")");
    return *plan;
  }

  std::optional<cublasLtMatmulAlgo_t> first_fit(Product product, const Alignments& align) const {
    if (product.any_rows()) product.size.m = kPlanRows;
    if (product.batch > 0) product.batch = kPlanBatch;
    cublasLtMatmulPreferenceOpaque_t preference;
    check_lt(cublasLtMatmulPreferenceInit(&preference));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check_lt(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kCudaWorkspaceBytes));
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(product.may_split() ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                                     : CUBLASLT_REDUCTION_SCHEME_NONE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align.b);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align.a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align.c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align.c);

    Description d(product);
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, &d.op, &d.b, &d.a, &d.c, &d.c, &preference, kCandidates, results.data(), &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return std::nullopt;
    check_lt(status);
    for (int i = 0; i < count; ++i) {
      if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
      if (fits_others(product, results[i].algo)) return results[i].algo;
    }
    return std::nullopt;
  }

  bool fits(const Product& product, const cublasLtMatmulAlgo_t& algo) const {
    Description d(product);
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status =
        cublasLtMatmulAlgoCheck(handle_, &d.op, &d.b, &d.a, &d.c, &d.c, &algo, &result);
    return status == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= static_cast<size_t>(kCudaWorkspaceBytes);
  }

  // Whether it also does other numbers of rows, or of matrices.
  bool fits_others(Product product, const cublasLtMatmulAlgo_t& algo) const {
    if (product.batch > 0) {
      return std::all_of(std::begin(kOtherBatches), std::end(kOtherBatches), [&](int64_t count) {
        product.batch = count;
        return fits(product, algo);
      });
    }
    return !product.any_rows() ||
           std::all_of(std::begin(kOtherRows), std::end(kOtherRows), [&](int64_t rows) {
             product.size.m = rows;
             return fits(product, algo);
           });
  }

  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

inline Planner& planner() {
  static Planner instance;
  return instance;
}

}  // namespace engine::kernels
