#include <type_traits>

#include "engine/gemm/lt_planner.cuh"
#include "engine/gemm/operand_types.cuh"
#include "engine/ops/gelu.cuh"
#include "engine/ops/linear_kernels.h"
#include "engine/ops/warp.cuh"

// Products by cuBLASLt (lt_planner.cuh), and what it does not do for us around them.
namespace engine::kernels {
namespace {

// The part of an epilogue that cuBLASLt did not do. `clear`: c counts as zeros (k = 0).
template <class T>
struct Rest {
  Epilogue<T> todo;
  bool clear;
  bool any() const {
    return clear || todo.bias != nullptr || todo.residual != nullptr || todo.activated != nullptr ||
           todo.slope_of != nullptr;
  }
};

// One warp a row.
template <class T, int kVec>
__global__ void __launch_bounds__(kWarp* kRowsPerBlock)
    rest_kernel(T* c, int64_t ldc, int64_t m, int64_t n, Rest<T> rest) {
  using Packed = Pack<Wide<T>, kVec>;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= m) return;
  const Epilogue<T>& e = rest.todo;
  for (int64_t j = int64_t{threadIdx.x} * kVec; j < n; j += kWarp * kVec) {
    const int64_t at = row * ldc + j;
    Packed x = rest.clear ? Packed{} : Packed::load(c + at);
    if (e.slope_of != nullptr) {
      const Packed z = Packed::load(e.slope_of + at);
      for (int i = 0; i < kVec; ++i) x.v[i] *= gelu_slope(z.v[i], e.form);
    }
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
      packable<T>(size.n, c, e.bias, e.residual, e.activated, e.slope_of) && ldc % kPack<T> == 0;
  const auto kernel = packed ? rest_kernel<T, kPack<T>> : rest_kernel<T, 1>;
  launch(on, blocks_for(size.m, kRowsPerBlock), dim3(kWarp, kRowsPerBlock), kernel, c, ldc, size.m,
         size.n, rest);
}

constexpr int kBfPack = 8;  // bf16 of one 16-byte access

// A stored operand: `lines` of `length` elements, `ld` apart; `batch` of them, `stride` apart.
template <class T>
struct Stored {
  const T* data;
  int64_t lines, length, ld, batch = 1, stride = 0;

  __host__ __device__ int64_t chunks() const { return (length + kBfPack - 1) / kBfPack; }
  // Whether cuBLASLt gets it where it lies: in bf16, if all lines begin on 16 bytes.
  bool in_place(Precision precision) const {
    return precision != Precision::kBf16 ||
           (std::is_same_v<T, bf16> && packable<bf16>(ld, data) && stride % kBfPack == 0);
  }
  int64_t copied_bytes(Precision precision) const {  // of 256 each, as the workspace begins
    if (in_place(precision)) return 0;
    const int64_t bytes = batch * lines * chunks() * kBfPack * static_cast<int64_t>(sizeof(bf16));
    return (bytes + 255) / 256 * 256;
  }
};

// The stored lines in bf16, chunks() times kBfPack in each; what was added to make lines that long
// is zeros.
template <class T, bool kPacked>
__global__ void __launch_bounds__(kEachThreads)
    copy_lines_kernel(Stored<T> x, int64_t count, bf16* out) {
  const int64_t i = int64_t{blockIdx.x} * kEachThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t line = i / x.chunks(), column = i % x.chunks() * kBfPack;
  const int64_t length = x.length;
  const T* from = x.data + line / x.lines * x.stride + line % x.lines * x.ld + column;
  Pack<float, kBfPack> in{};
  if (kPacked && column + kBfPack <= length) {
    in = Pack<float, kBfPack>::load(from);
  } else {
#pragma unroll
    for (int e = 0; e < kBfPack; ++e) {
      if (column + e < length) in.v[e] = Pack<float, 1>::load(from + e).v[0];
    }
  }
  in.store(out + i * kBfPack);
}

template <class T>
void copy_lines(Cuda on, const Stored<T>& x, void* out) {
  const int64_t count = x.batch * x.lines * x.chunks();
  const bool packed = packable<T>(x.ld, x.data) && x.stride % kPack<T> == 0;
  launch(on, blocks_for(count, kEachThreads), kEachThreads,
         packed ? copy_lines_kernel<T, true> : copy_lines_kernel<T, false>, x, count,
         static_cast<bf16*>(out));
}

// What cuBLASLt gets: a and b as they are, or in bf16 behind the part of the workspace that it has
// for itself. `spare` is behind those.
struct Given {
  const void *a, *b;
  int64_t lda, ldb, stride_a, stride_b;
  void *workspace, *spare;
};
template <class T>
Stored<T> stored(Trans trans, const T* data, int64_t rows, int64_t cols, int64_t ld) {
  return {data, trans == Trans::kNo ? rows : cols, trans == Trans::kNo ? cols : rows, ld};
}
template <class T>
Given give(Cuda on, const Stored<T>& a, const Stored<T>& b, Precision precision,
           int64_t spare_bytes = 0) {
  const int64_t bytes_a = a.copied_bytes(precision), bytes_b = b.copied_bytes(precision);
  char* const all =
      static_cast<char*>(cuda_workspace(kCudaWorkspaceBytes + bytes_a + bytes_b + spare_bytes));
  char* const copied_a = all + kCudaWorkspaceBytes;
  char* const copied_b = copied_a + bytes_a;
  Given given{a.data, b.data, a.ld, b.ld, a.stride, b.stride, all, copied_b + bytes_b};
  if constexpr (!std::is_same_v<T, double>) {
    if (bytes_a > 0) {
      copy_lines(on, a, copied_a);
      given.a = copied_a;
      given.lda = a.chunks() * kBfPack;
      given.stride_a = a.lines * given.lda;
    }
    if (bytes_b > 0) {
      copy_lines(on, b, copied_b);
      given.b = copied_b;
      given.ldb = b.chunks() * kBfPack;
      given.stride_b = b.lines * given.ldb;
    }
  }
  return given;
}

// The bias that has to be rounded to be of c's type; no data where it is of that type.
template <class T>
Stored<float> bias_beside(const T*, const Wide<T>* bias, int64_t n) {
  if constexpr (std::is_same_v<T, bf16>) return {bias, 1, n, n};
  return {nullptr, 1, n, n};
}

// What of the epilogue cuBLASLt is asked for beside the bias. Used where it spares memory most, for
// operands in bf16; its GELU is the one by tanh, and lines must begin on 16 bytes.
template <class In, class Out>
Extra extra_of(const Epilogue<Out>& e, const Out* c, int64_t ldc) {
  if (!std::is_same_v<In, bf16>) return Extra::kNone;
  if (e.b_sums != nullptr) return std::is_same_v<Out, float> ? Extra::kColumnSums : Extra::kNone;
  const bool gelu = std::is_same_v<Out, bf16> && e.form == GeluForm::kTanh &&
                    packable<Out>(ldc, c, e.activated, e.slope_of);
  if (gelu && e.slope_of != nullptr) return Extra::kGeluSlope;
  return gelu && e.activated != nullptr ? Extra::kGelu : Extra::kNone;
}

// Where cuBLASLt finds or puts what an extra is about; sums go behind the operands' copies first.
template <class Out>
void* data_of(Extra extra, const Epilogue<Out>& e, Out* c, void* spare) {
  switch (extra) {
    case Extra::kGelu:
      return c;
    case Extra::kGeluSlope:
      return const_cast<Out*>(e.slope_of);
    case Extra::kColumnSums:
      return spare;
    default:
      return nullptr;
  }
}

template <class Scale>
void multiply(Cuda on, const Product& product, const Plan& plan, const Given& given,
              const void* add, bool adds, void* c) {
  const Scale one = 1, beta = adds ? Scale(1) : Scale(0);
  Description d(product);
  check_lt(cublasLtMatmul(planner().handle(), &d.op, &one, given.b, &d.b, given.a, &d.a, &beta, add,
                          &d.c, c, &d.c, &plan.algo, given.workspace,
                          static_cast<size_t>(kCudaWorkspaceBytes), on.stream));
}

}  // namespace

template <class In, class Out>
void gemm(Cuda on, Trans ta, Trans tb, GemmSize size, const In* a, int64_t lda, const In* b,
          int64_t ldb, Out* c, int64_t ldc, GradWrite write, const Epilogue<Out>& epilogue,
          Precision precision) {
  check_operands<In>(precision);
  const auto [m, n, k] = size;
  if (m == 0 || n == 0) return;
  const bool accumulate = write == GradWrite::kAccumulate;
  Rest<Out> rest{epilogue, false};
  rest.todo.b_sums = nullptr;
  if (k == 0) {
    rest.clear = !accumulate;
    return finish(on, c, ldc, size, rest);
  }
  // cuBLASLt adds one matrix for free: what is there, or else the residual.
  const Out* add = accumulate ? c : epilogue.residual;
  if (!accumulate) rest.todo.residual = nullptr;
  const bool adds = add != nullptr;
  if (!adds) add = c;  // not read

  // It takes a bias of c's type only.
  const Stored<float> long_bias = bias_beside(c, epilogue.bias, n);
  const int64_t bias_bytes = long_bias.data == nullptr ? 0 : long_bias.copied_bytes(precision);
  Extra extra = extra_of<In>(epilogue, c, ldc);
  const int64_t sum_bytes =
      extra == Extra::kColumnSums ? n * static_cast<int64_t>(sizeof(Wide<Out>)) : 0;
  const Given given = give(on, stored(ta, a, m, k, lda), stored(tb, b, k, n, ldb), precision,
                           std::max(bias_bytes, sum_bytes));
  const void* bias = bias_bytes > 0 ? given.spare : epilogue.bias;
  if (alignment_of({bias}) < kAlign) bias = nullptr;
  const bool whole_bias = (bias == nullptr) == (epilogue.bias == nullptr);
  if (extra == Extra::kGelu && (adds || !whole_bias)) extra = Extra::kNone;
  Product product{ta,
                  tb,
                  size,
                  given.lda,
                  given.ldb,
                  ldc,
                  std::is_same_v<Out, double>,
                  precision,
                  std::is_same_v<Out, bf16>,
                  bias,
                  extra,
                  data_of(extra, epilogue, c, given.spare)};
  const Plan& plan = planner().plan(
      product, {alignment_of({given.b}), alignment_of({given.a}), alignment_of({c, add})});
  if (plan.adds_bias) {
    if (bias_bytes > 0) copy_lines(on, long_bias, given.spare);
    rest.todo.bias = nullptr;
  } else {
    product.bias = nullptr;
  }
  if (!plan.does_extra) product.extra = extra = Extra::kNone;
  if (extra == Extra::kGelu) {
    rest.todo.activated = nullptr;
    add = c = epilogue.activated;
  }
  if (extra == Extra::kGeluSlope) rest.todo.slope_of = nullptr;
  multiply<Wide<Out>>(on, product, plan, given, add, adds, c);
  finish(on, c, ldc, size, rest);
  if (epilogue.b_sums == nullptr) return;
  if (extra == Extra::kColumnSums) {
    add_into(on, static_cast<const Wide<Out>*>(given.spare), epilogue.b_sums, n);
  } else {
    add_column_sums(on, b, nullptr, 1, {k, n}, epilogue.b_sums);
  }
}

template <class In, class Out>
void strided_gemm(Cuda on, Trans ta, Trans tb, int64_t batch, GemmSize size, Strided<const In> a,
                  Strided<const In> b, Strided<Out> c, GradWrite write, Precision precision) {
  check_operands<In>(precision);
  const auto [m, n, k] = size;
  if (batch == 0 || m == 0 || n == 0) return;
  const bool accumulate = write == GradWrite::kAccumulate;
  if (k == 0) {
    for (int64_t i = 0; i < batch; ++i) {
      finish(on, c.data + i * c.stride, c.ld, size, Rest<Out>{{}, !accumulate});
    }
    return;
  }
  for (int64_t done = 0; done < batch; done += kMostBatch) {
    const int64_t count = std::min(kMostBatch, batch - done);
    Stored<In> a_in = stored(ta, a.data + done * a.stride, m, k, a.ld);
    Stored<In> b_in = stored(tb, b.data + done * b.stride, k, n, b.ld);
    a_in.batch = b_in.batch = count;
    a_in.stride = a.stride;
    b_in.stride = b.stride;
    const Given given = give(on, a_in, b_in, precision);
    const Product product{ta,
                          tb,
                          size,
                          given.lda,
                          given.ldb,
                          c.ld,
                          std::is_same_v<Out, double>,
                          precision,
                          std::is_same_v<Out, bf16>,
                          nullptr,
                          Extra::kNone,
                          nullptr,
                          count,
                          given.stride_a,
                          given.stride_b,
                          c.stride};
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Out));
    const int64_t in = precision == Precision::kBf16 ? 2 : static_cast<int64_t>(sizeof(In));
    Out* const to = c.data + done * c.stride;
    const Plan& plan = planner().plan(product, {alignment_of({given.b}, given.stride_b * in),
                                                alignment_of({given.a}, given.stride_a * in),
                                                alignment_of({to}, c.stride * kBytes)});
    multiply<Wide<Out>>(on, product, plan, given, to, accumulate, to);
  }
}

template void strided_gemm(Cuda, Trans, Trans, int64_t, GemmSize, Strided<const float>,
                           Strided<const float>, Strided<float>, GradWrite, Precision);
template void strided_gemm(Cuda, Trans, Trans, int64_t, GemmSize, Strided<const double>,
                           Strided<const double>, Strided<double>, GradWrite, Precision);
template void strided_gemm(Cuda, Trans, Trans, int64_t, GemmSize, Strided<const bf16>,
                           Strided<const bf16>, Strided<bf16>, GradWrite, Precision);
template void gemm(Cuda, Trans, Trans, GemmSize, const float*, int64_t, const float*, int64_t,
                   float*, int64_t, GradWrite, const Epilogue<float>&, Precision);
template void gemm(Cuda, Trans, Trans, GemmSize, const double*, int64_t, const double*, int64_t,
                   double*, int64_t, GradWrite, const Epilogue<double>&, Precision);
template void gemm(Cuda, Trans, Trans, GemmSize, const bf16*, int64_t, const bf16*, int64_t, bf16*,
                   int64_t, GradWrite, const Epilogue<bf16>&, Precision);
template void gemm(Cuda, Trans, Trans, GemmSize, const bf16*, int64_t, const bf16*, int64_t, float*,
                   int64_t, GradWrite, const Epilogue<float>&, Precision);

}  // namespace engine::kernels
