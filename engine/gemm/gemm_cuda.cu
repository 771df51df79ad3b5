#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "engine/core/cuda_check.h"
#include "engine/core/cuda_workspace.h"
#include "engine/gemm/gemm.h"
#include "engine/ops/warp.cuh"

// Products by cuBLASLt in IEEE f32 or f64: the "pedantic" compute types rule out TF32 and emulation
// whatever the environment asks for.
//
// The row guarantee rests on the choice of algorithm. Where a is not transposed the algorithm is
// looked up for kPlanRows rows whatever m is, must fit any other m, and never splits k: so a row is
// computed by the same kernel over the same sequence of k in every batch. Where a is transposed (a
// weight's gradient, whose k is long) k may be split, and the parts are added in a step of their
// own, in order. An algorithm is chosen once for a shape and kept, so runs repeat themselves.
namespace engine::kernels {
namespace {

constexpr int64_t kPlanRows = 4096;
constexpr int64_t kOtherRows[] = {1, 7, 256, 65536};
constexpr int kCandidates = 32;
constexpr int64_t kAlign = 16;  // widest single access of the f32 and f64 kernels

void check_lt(cublasStatus_t status, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]] {
    fail(Blame(ErrorKind::kCuda, file, line), "cuBLASLt: ", cublasLtGetStatusString(status));
  }
}

// A product as gemm() is called, without its data.
struct Product {
  Trans ta, tb;
  GemmSize size;
  int64_t lda, ldb, ldc;
  bool is_f64;
  const void* bias;  // added by cuBLASLt if not null
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
    check_lt(cublasLtMatmulDescInit(
        &op, product.is_f64 ? CUBLAS_COMPUTE_64F_PEDANTIC : CUBLAS_COMPUTE_32F_PEDANTIC, type));
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.tb == Trans::kNo ? CUBLAS_OP_N : CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.ta == Trans::kNo ? CUBLAS_OP_N : CUBLAS_OP_T);
    if (product.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
    }
    layout(&b, type, product.tb == Trans::kNo ? n : k, product.tb == Trans::kNo ? k : n,
           product.ldb);
    layout(&a, type, product.ta == Trans::kNo ? k : m, product.ta == Trans::kNo ? m : k,
           product.lda);
    layout(&c, type, n, m, product.ldc);
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    check_lt(cublasLtMatmulDescSetAttribute(&op, attribute, &value, sizeof(value)));
  }
  static void layout(cublasLtMatrixLayout_t out, cudaDataType type, int64_t rows, int64_t cols,
                     int64_t ld) {
    check_lt(cublasLtMatrixLayoutInit(out, type, static_cast<uint64_t>(rows),
                                      static_cast<uint64_t>(cols), ld));
  }
};

// The largest power of two, up to kAlign, that divides all addresses.
uint32_t alignment_of(std::initializer_list<const void*> pointers) {
  uintptr_t bits = kAlign;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return static_cast<uint32_t>(bits & (~bits + 1));
}

struct Alignments {
  uint32_t b, a, c;
};

struct Plan {
  cublasLtMatmulAlgo_t algo;
  bool adds_bias;
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
                  product.bias != nullptr,
                  static_cast<int64_t>(product.ta),
                  static_cast<int64_t>(product.tb),
                  product.ta == Trans::kNo ? kPlanRows : size.m,
                  size.n,
                  size.k,
                  product.lda,
                  product.ldb,
                  product.ldc,
                  align.b,
                  align.a,
                  align.c};
    const auto found = plans_.find(key);
    return found != plans_.end() ? found->second
                                 : plans_.emplace(key, choose(product, align)).first->second;
  }

 private:
  using Key = std::array<int64_t, 13>;

  Plan choose(const Product& product, const Alignments& align) const {
    if (const auto algo = first_fit(product, align)) return {*algo, product.bias != nullptr};
    Product plain = product;
    plain.bias = nullptr;
    const auto algo = first_fit(plain, align);
    const GemmSize size = product.size;
    check(algo.has_value(), ErrorKind::kCuda, "cuBLASLt has no algorithm for the product (", size.m,
          ",", size.k, ") x (", size.k, ",", size.n, ")");
    return {*algo, false};
  }

  std::optional<cublasLtMatmulAlgo_t> first_fit(Product product, const Alignments& align) const {
    const bool any_rows = product.ta == Trans::kNo;
    if (any_rows) product.size.m = kPlanRows;
    cublasLtMatmulPreferenceOpaque_t preference;
    check_lt(cublasLtMatmulPreferenceInit(&preference));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check_lt(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kCudaWorkspaceBytes));
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(any_rows ? CUBLASLT_REDUCTION_SCHEME_NONE
                                          : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
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
      if (!any_rows || fits_other_rows(product, results[i].algo)) return results[i].algo;
    }
    return std::nullopt;
  }

  bool fits_other_rows(Product product, const cublasLtMatmulAlgo_t& algo) const {
    return std::all_of(std::begin(kOtherRows), std::end(kOtherRows), [&](int64_t rows) {
      product.size.m = rows;
      Description d(product);
      cublasLtMatmulHeuristicResult_t result{};
      const cublasStatus_t status =
          cublasLtMatmulAlgoCheck(handle_, &d.op, &d.b, &d.a, &d.c, &d.c, &algo, &result);
      return status == CUBLAS_STATUS_SUCCESS &&
             result.workspaceSize <= static_cast<size_t>(kCudaWorkspaceBytes);
    });
  }

  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

Planner& planner() {
  static Planner instance;
  return instance;
}

template <class T>
__device__ T gelu(T x, GeluForm form) {
  if (form == GeluForm::kErf) return x * T(0.5) * (T(1) + erf(x * T(0.70710678118654752)));
  const T inner = T(kTwoSqrt2OverPi) * x + T(kTwoSqrt2OverPi * kGeluCubic) * x * x * x;
  return x / (T(1) + exp(-inner));
}

// The part of an epilogue that cuBLASLt did not do. `clear`: c counts as zeros (k = 0).
template <class T>
struct Rest {
  Epilogue<T> todo;
  bool clear;
  bool any() const {
    return clear || todo.bias != nullptr || todo.residual != nullptr || todo.activated != nullptr;
  }
};

// One warp a row.
template <class T, int kVec>
__global__ void __launch_bounds__(kWarp* kRowsPerBlock)
    rest_kernel(T* c, int64_t ldc, int64_t m, int64_t n, Rest<T> rest) {
  using Packed = Pack<T, kVec>;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= m) return;
  const Epilogue<T>& e = rest.todo;
  for (int64_t j = int64_t{threadIdx.x} * kVec; j < n; j += kWarp * kVec) {
    const int64_t at = row * ldc + j;
    Packed x = rest.clear ? Packed{} : Packed::load(c + at);
    if (e.bias != nullptr) {
      const Packed b = Packed::load(e.bias + j);
      for (int i = 0; i < kVec; ++i) x.v[i] += b.v[i];
    }
    if (e.residual != nullptr) {
      const Packed r = Packed::load(e.residual + at);
      for (int i = 0; i < kVec; ++i) x.v[i] += r.v[i];
    }
    x.store(c + at);
    if (e.activated != nullptr) {
      for (int i = 0; i < kVec; ++i) x.v[i] = gelu(x.v[i], e.form);
      x.store(e.activated + at);
    }
  }
}

template <class T>
void finish(Cuda on, T* c, int64_t ldc, GemmSize size, const Rest<T>& rest) {
  if (!rest.any()) return;
  const Epilogue<T>& e = rest.todo;
  const bool packed =
      packable<T>(size.n, c, e.bias, e.residual, e.activated) && ldc % kPack<T> == 0;
  const auto kernel = packed ? rest_kernel<T, kPack<T>> : rest_kernel<T, 1>;
  kernel<<<blocks_for(size.m, kRowsPerBlock), dim3(kWarp, kRowsPerBlock), 0, on.stream>>>(
      c, ldc, size.m, size.n, rest);
  check_cuda(cudaGetLastError());
}

}  // namespace

template <class T>
void gemm(Cuda on, Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b,
          int64_t ldb, T* c, int64_t ldc, GradWrite write, const Epilogue<T>& epilogue) {
  if (size.m == 0 || size.n == 0) return;
  const bool accumulate = write == GradWrite::kAccumulate;
  Rest<T> rest{epilogue, false};
  if (size.k == 0) {
    rest.clear = !accumulate;
    return finish(on, c, ldc, size, rest);
  }
  // cuBLASLt adds one matrix for free: what is there, or else the residual.
  const T* add = accumulate ? c : epilogue.residual;
  if (!accumulate) rest.todo.residual = nullptr;
  const T one = 1, beta = add != nullptr ? T(1) : T(0);
  if (add == nullptr) add = c;  // not read

  const bool bias_aligned = alignment_of({epilogue.bias}) == kAlign;
  Product product{ta,
                  tb,
                  size,
                  lda,
                  ldb,
                  ldc,
                  std::is_same_v<T, double>,
                  bias_aligned ? epilogue.bias : nullptr};
  const Plan& plan =
      planner().plan(product, {alignment_of({b}), alignment_of({a}), alignment_of({c, add})});
  if (plan.adds_bias) {
    rest.todo.bias = nullptr;
  } else {
    product.bias = nullptr;
  }
  Description d(product);
  check_lt(cublasLtMatmul(planner().handle(), &d.op, &one, b, &d.b, a, &d.a, &beta, add, &d.c, c,
                          &d.c, &plan.algo, cuda_workspace(kCudaWorkspaceBytes),
                          static_cast<size_t>(kCudaWorkspaceBytes), on.stream));
  finish(on, c, ldc, size, rest);
}

template void gemm(Cuda, Trans, Trans, GemmSize, const float*, int64_t, const float*, int64_t,
                   float*, int64_t, GradWrite, const Epilogue<float>&);
template void gemm(Cuda, Trans, Trans, GemmSize, const double*, int64_t, const double*, int64_t,
                   double*, int64_t, GradWrite, const Epilogue<double>&);

}  // namespace engine::kernels
