#include "engine/ops/batched.h"

#include "engine/ops/batched_kernels.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using kernels::Trans;

namespace {

template <class T>
void check_batched(Precision precision, double bound) {
  for (const auto& size : std::vector<std::array<int64_t, 4>>{
           {1, 1, 1, 1}, {3, 5, 7, 9}, {2, 8, 16, 4}, {5, 17, 12, 20}}) {
    const auto& [b, m, k, n] = size;
    CAPTURE(size[0]);
    check_parity<T>(
        Device::kCuda, {{{b, m, k}}, {{b, k, n}}},
        [precision](Tape&, auto in) {
          const bool cpu_tf32 = in[0].device() == Device::kCpu && precision == Precision::kTf32;
          return batched_matmul(in[0], in[1], cpu_tf32 ? Precision::kF32 : precision);
        },
        bound);
  }
}

// Matrices that lie apart, in lines that lie apart: what is between stays.
template <class T>
void check_strided(Precision precision, double bound) {
  constexpr int64_t kBatch = 3, kM = 6, kN = 5, kK = 9, kPad = 3;
  for (const Trans ta : {Trans::kNo, Trans::kYes}) {
    for (const Trans tb : {Trans::kNo, Trans::kYes}) {
      const int64_t lda = (ta == Trans::kNo ? kK : kM) + kPad, sa = lda * 10 + 1;
      const int64_t ldb = (tb == Trans::kNo ? kN : kK) + kPad, sb = ldb * 11 + 2;
      const int64_t ldc = kN + kPad, sc = ldc * 8;
      const auto a = test_values<T>(1, kBatch * sa), b = test_values<T>(2, kBatch * sb),
                 c = test_values<T>(3, kBatch * sc);
      for (const GradWrite write : {GradWrite::kOverwrite, GradWrite::kAccumulate}) {
        std::vector<T> want = c;
        const Precision same = precision == Precision::kTf32 ? Precision::kF32 : precision;
        for (int64_t i = 0; i < kBatch; ++i) {
          kernels::gemm<T>(Cpu{}, ta, tb, {kM, kN, kK}, a.data() + i * sa, lda, b.data() + i * sb,
                           ldb, want.data() + i * sc, ldc, write, {}, same);
        }
        const Buffer da = upload(a, Device::kCuda), db = upload(b, Device::kCuda),
                     dc = upload(c, Device::kCuda);
        if constexpr (kCudaEnabled) {
          kernels::strided_gemm<T, T>(cuda_backend(), ta, tb, kBatch, {kM, kN, kK},
                                      {da.data<const T>(), lda, sa}, {db.data<const T>(), ldb, sb},
                                      {dc.data<T>(), ldc, sc}, write, precision);
        }
        CHECK(worst_error(download<T>(dc), std::vector<double>(want.begin(), want.end())) < bound);
      }
    }
  }
}

}  // namespace

TEST_CASE("cuda: batched_matmul as on the CPU" * doctest::skip(!cuda_available())) {
  check_batched<float>(Precision::kF32, tolerance<float>());
  check_batched<double>(Precision::kF32, tolerance<double>());
  check_batched<float>(Precision::kBf16, 1e-5);
  check_batched<float>(Precision::kTf32, 2e-3);
}
TEST_CASE("cuda: strided products" * doctest::skip(!cuda_available())) {
  check_strided<float>(Precision::kF32, tolerance<float>());
  check_strided<double>(Precision::kF32, tolerance<double>());
  check_strided<float>(Precision::kBf16, 1e-5);
  check_strided<float>(Precision::kTf32, 2e-3);
}
TEST_CASE("cuda: a batched product over nothing is zeros" * doctest::skip(!cuda_available())) {
  const Buffer c = upload(test_values<float>(1, 12), Device::kCuda);
  const Buffer none({1}, Dtype::kF32, Device::kCuda);
  on_device(Device::kCuda, [&](auto backend) {
    kernels::batched_gemm<float>(backend, Trans::kNo, Trans::kNo, 2, {3, 2, 0},
                                 none.data<const float>(), none.data<const float>(),
                                 c.data<float>(), GradWrite::kOverwrite, Precision::kF32);
  });
  CHECK(same_bits(download<float>(c), std::vector<float>(12, 0.0f)));
}
