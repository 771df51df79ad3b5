#pragma once

#include <cstdint>
#include <string_view>

#include "engine/core/backend.h"
#include "engine/core/precision.h"
#include "engine/core/stored.h"
#include "engine/ops/gelu_math.h"

// Matrix products, the one place that knows how each backend does them.
//
// The row guarantee: every element of a product is one chain of fused multiply-adds over k
// in increasing order (cut at fixed multiples of k), whatever m, n, the position of the
// element, the number of threads and the other rows. So a row's result is the same bits
// alone and in a batch, and bit-identical on AVX2 and AVX-512. In bf16 (kBf16, float only) the
// operands are rounded to the nearest bf16, ties to even, and the chain takes k in steps of 32; in
// which order a step is added, and whether numbers below 2^-126 count as zero, is the machine's.
// kTf32 is the same on CUDA devices only: Error(kDevice) for Cpu{}.
//
// On CUDA the operands of a product in kBf16 may be stored in bf16 (In), and then its result may
// be, too (Out): sums are f32, and what is stored is rounded. (In, Out): (f32, f32), (f64, f64),
// (bf16, bf16), (bf16, f32). An epilogue begins with the sum in f32 or, where it takes a pass of
// its own over memory, with the sum as Out holds it: which, follows from n, k, strides and
// alignment alone. A bias added to a result stored in bf16 may be rounded to bf16 first.
// Error(kDtype) for operands stored in bf16 with another precision.
namespace engine::kernels {

enum class Trans : uint8_t { kNo, kYes };

struct GemmSize {
  int64_t m, n, k;
};

// What happens to an element after its product is complete, in this order:
//   c = product (+ c, when accumulating) + bias[column] + residual;  activated = gelu(c)
// `residual` and `activated` have c's layout and type. On CUDA, each instead of all others:
//   c = product * gelu'(slope_of), which has c's layout and type, when not accumulating;
//   b_sums[column] += sum of b's column over k, in gemm() with a dense b that is not transposed.
template <class T>
struct Epilogue {
  const Wide<T>* bias = nullptr;
  const T* residual = nullptr;
  T* activated = nullptr;
  GeluForm form = GeluForm::kTanh;
  const T* slope_of = nullptr;
  Wide<T>* b_sums = nullptr;
};

// c (m,n) = op(a) (m,k) * op(b) (k,n). Row-major; lda, ldb, ldc are the strides of the
// stored rows. c must not alias the inputs. T = float or double; Error(kDtype) for kBf16 and
// kTf32 with double.
template <class T>
void gemm(Cpu, Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b, int64_t ldb,
          T* c, int64_t ldc, GradWrite write, const Epilogue<T>& epilogue = {},
          Precision precision = Precision::kF32);
template <class In, class Out>
void gemm(Cuda, Trans ta, Trans tb, GemmSize size, const In* a, int64_t lda, const In* b,
          int64_t ldb, Out* c, int64_t ldc, GradWrite write, const Epilogue<Out>& epilogue = {},
          Precision precision = Precision::kF32);

// `batch` products of one size: matrix i of an operand begins i * stride elements after the first.
// A product's bits do not depend on the others.
template <class T>
struct Strided {
  T* data;
  int64_t ld, stride;
};
template <class In, class Out>
void strided_gemm(Cuda, Trans ta, Trans tb, int64_t batch, GemmSize size, Strided<const In> a,
                  Strided<const In> b, Strided<Out> c, GradWrite write,
                  Precision precision = Precision::kF32);

// The same on the calling thread only, for kernels that are parallel on the outside.
template <class T>
void gemm_serial(Trans ta, Trans tb, GemmSize size, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T* c, int64_t ldc, GradWrite write,
                 Precision precision = Precision::kF32);

// Grouped: group g owns the rows offset[g] ... offset[g+1] of a and c, and has its own
// matrix b_g, (k,n) or transposed (n,k), dense, one after the other. bias: (groups, n).
// size.m is the number of all rows. On CUDA the offsets are read by the device alone and may end
// before size.m: rows of no group get zeros in c and `activated` (c stays when accumulating).
template <class T>
void grouped_gemm(Cpu, Trans tb, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                  const T* b, T* c, GradWrite write, const Epilogue<T>& epilogue = {},
                  Precision precision = Precision::kF32);
template <class In, class Out>
void grouped_gemm(Cuda, Trans tb, const int32_t* offset, int64_t groups, GemmSize size, const In* a,
                  const In* b, Out* c, GradWrite write, const Epilogue<Out>& epilogue = {},
                  Precision precision = Precision::kF32);

// c_g (m,n) = a_g^T b_g with a (rows,m), b (rows,n) and group g's rows as above; a group
// without rows gets zeros (or stays, when accumulating). size.k is the number of all rows; on CUDA
// the offsets may end before it, and what lies behind is not read.
template <class T>
void grouped_gemm_transposed(Cpu, const int32_t* offset, int64_t groups, GemmSize size, const T* a,
                             const T* b, T* c, GradWrite write,
                             Precision precision = Precision::kF32);
template <class In, class Out>
void grouped_gemm_transposed(Cuda, const int32_t* offset, int64_t groups, GemmSize size,
                             const In* a, const In* b, Out* c, GradWrite write,
                             Precision precision = Precision::kF32);

// How this machine multiplies in bf16, for people: what a run's log says.
std::string_view bf16_method();

}  // namespace engine::kernels
