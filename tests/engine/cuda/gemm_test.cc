#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/gemm/gemm.h"
#include "tests/support/devices.h"
#include "tests/support/sanitized.h"

using namespace engine;
using namespace engine::test;
using kernels::Epilogue;
using kernels::GemmSize;
using kernels::Trans;

namespace {

struct Case {
  bool bias = false, residual = false, activated = false, accumulate = false;
  GeluForm form = GeluForm::kTanh;
  Precision precision = Precision::kF32;
};
const Case kCases[] = {
    {},
    {.accumulate = true},
    {.bias = true},
    {.residual = true},
    {.bias = true, .residual = true},
    {.bias = true, .activated = true},
    {.activated = true, .form = GeluForm::kErf},
    {.bias = true, .residual = true, .activated = true, .accumulate = true},
};

double gelu(double x, GeluForm form) {
  if (form == GeluForm::kErf) return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(u));
}

// Inputs of one product; rows of a, b and c are `pad` elements longer than they need to be.
template <class T>
struct Inputs {
  Trans ta, tb;
  GemmSize size;
  int64_t lda, ldb, ldc;
  std::vector<T> a, b, c, bias, residual;

  Inputs(Trans ta_, Trans tb_, GemmSize s, int64_t pad = 0)
      : ta(ta_),
        tb(tb_),
        size(s),
        lda((ta == Trans::kNo ? s.k : s.m) + pad),
        ldb((tb == Trans::kNo ? s.n : s.k) + pad),
        ldc(s.n + pad),
        a(test_values<T>(1, (ta == Trans::kNo ? s.m : s.k) * lda)),
        b(test_values<T>(2, (tb == Trans::kNo ? s.k : s.n) * ldb)),
        c(test_values<T>(3, s.m * ldc)),
        bias(test_values<T>(4, s.n)),
        residual(test_values<T>(5, s.m * ldc)) {}
};

template <class T>
struct Outputs {
  std::vector<T> c, activated;
};

// An operand as it is multiplied; tf32 is compared with f32.
template <class T>
double rounded(T x, Precision precision) {
  if (precision != Precision::kBf16) return x;
  return to_float(to_bf16(static_cast<float>(x)));
}
template <class T>
double bound(Precision precision) {
  return precision == Precision::kTf32 ? 2e-3 : tolerance<T>();
}

// By the definition, in f64; the padding of c keeps what was there, that of `activated` zeros.
template <class T>
Outputs<double> reference(const Inputs<T>& in, const Case& what) {
  Outputs<double> out{{in.c.begin(), in.c.end()}, std::vector<double>(in.c.size())};
  for (int64_t i = 0; i < in.size.m; ++i) {
    for (int64_t j = 0; j < in.size.n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < in.size.k; ++p) {
        const T x = in.ta == Trans::kNo ? in.a[i * in.lda + p] : in.a[p * in.lda + i];
        const T w = in.tb == Trans::kNo ? in.b[p * in.ldb + j] : in.b[j * in.ldb + p];
        sum += rounded(x, what.precision) * rounded(w, what.precision);
      }
      const int64_t at = i * in.ldc + j;
      if (what.accumulate) sum += in.c[at];
      if (what.bias) sum += in.bias[j];
      if (what.residual) sum += in.residual[at];
      out.c[at] = sum;
      if (what.activated) out.activated[at] = gelu(sum, what.form);
    }
  }
  return out;
}

template <class T>
Outputs<T> run(Device device, const Inputs<T>& in, const Case& what) {
  const Buffer a = upload(in.a, device), b = upload(in.b, device), c = upload(in.c, device),
               bias = upload(in.bias, device), residual = upload(in.residual, device);
  const Buffer activated({static_cast<int64_t>(in.c.size())}, dtype_of<T>(), device);
  Epilogue<T> epilogue;
  if (what.bias) epilogue.bias = bias.data<const T>();
  if (what.residual) epilogue.residual = residual.data<const T>();
  if (what.activated) epilogue.activated = activated.data<T>();
  epilogue.form = what.form;
  on_device(device, [&](auto backend) {
    kernels::gemm<T>(backend, in.ta, in.tb, in.size, a.data<const T>(), in.lda, b.data<const T>(),
                     in.ldb, c.data<T>(), in.ldc,
                     what.accumulate ? GradWrite::kAccumulate : GradWrite::kOverwrite, epilogue,
                     what.precision);
  });
  return {download<T>(c), download<T>(activated)};
}

template <class T>
void check_case(Device device, const Inputs<T>& in, const Case& what) {
  CAPTURE(in.size.m);
  CAPTURE(in.size.n);
  CAPTURE(in.size.k);
  CAPTURE(static_cast<int>(in.ta));
  CAPTURE(static_cast<int>(in.tb));
  CAPTURE(what.bias);
  CAPTURE(what.residual);
  CAPTURE(what.activated);
  CAPTURE(what.accumulate);
  const auto want = reference(in, what);
  const auto got = run(device, in, what);
  CHECK(worst_error(got.c, want.c) < bound<T>(what.precision));
  CHECK(worst_error(got.activated, want.activated) < bound<T>(what.precision));
}

template <class T>
void check_gemm(Device device) {
  for (const Trans ta : {Trans::kNo, Trans::kYes}) {
    for (const Trans tb : {Trans::kNo, Trans::kYes}) {
      for (const GemmSize size : {GemmSize{1, 1, 1}, GemmSize{3, 5, 7}, GemmSize{1, 10, 192},
                                  GemmSize{33, 8, 64}, GemmSize{130, 96, 65}}) {
        for (const Case& what : kCases) check_case(device, Inputs<T>(ta, tb, size), what);
      }
      const GemmSize odd{17, 20, 24};
      for (const Case& what : kCases) {
        check_case(device, Inputs<T>(ta, tb, odd, 3), what);  // no 16-byte rows
        check_case(device, Inputs<T>(ta, tb, odd, 4), what);
        check_case(device, Inputs<T>(ta, tb, {5, 12, 0}), what);
      }
      // So long that a product in a shorter format than f32 would be seen.
      check_case(device, Inputs<T>(ta, tb, {40, 24, 4096}), {});
    }
  }
  const Inputs<T> none(Trans::kNo, Trans::kNo, {0, 5, 7});
  CHECK(run(device, none, {}).c.empty());
}

void check_precision(Precision precision) {
  for (const Trans ta : {Trans::kNo, Trans::kYes}) {
    for (const Trans tb : {Trans::kNo, Trans::kYes}) {
      for (Case what : kCases) {
        what.precision = precision;
        check_case(Device::kCuda, Inputs<float>(ta, tb, {3, 5, 7}), what);
        check_case(Device::kCuda, Inputs<float>(ta, tb, {17, 20, 24}), what);
      }
      const Case plain{.precision = precision};
      for (const int64_t pad : {0, 3, 4}) {
        check_case(Device::kCuda, Inputs<float>(ta, tb, {33, 36, 64}, pad), plain);
      }
      check_case(Device::kCuda, Inputs<float>(ta, tb, {5, 12, 0}), plain);
      check_case(Device::kCuda, Inputs<float>(ta, tb, {40, 24, 2048}), plain);
    }
  }
}

// The same product again gives the same bits, split over k or not.
template <class T>
void check_repeats(Device device) {
  for (const Trans ta : {Trans::kNo, Trans::kYes}) {
    const Inputs<T> in(ta, Trans::kNo, {192, 200, kSanitized ? 1024 : 8192});
    const Case what{.bias = true, .residual = true, .activated = true};
    const auto once = run(device, in, what);
    for (int i = 0; i < 3; ++i) {
      const auto again = run(device, in, what);
      CHECK(same_bits(again.c, once.c));
      CHECK(same_bits(again.activated, once.activated));
    }
  }
}

// A row has the same bits whatever the number of rows.
template <class T>
void check_rows_of(Device device, Trans tb, int64_t n, int64_t k,
                   Precision precision = Precision::kF32) {
  Inputs<T> in(Trans::kNo, tb, {511, n, k});
  const Case what{.bias = true, .precision = precision};
  const auto all = run(device, in, what).c;
  for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33}) {
    CAPTURE(n);
    CAPTURE(k);
    CAPTURE(m);
    in.size.m = m;
    in.a = test_values<T>(1, m * k);  // the first rows of the same sequence
    in.c.resize(m * n);
    in.residual.resize(m * n);
    CHECK(same_bits(run(device, in, what).c, std::vector<T>(all.begin(), all.begin() + m * n)));
  }
}
template <class T>
void check_rows(Device device) {
  for (const int64_t n : {int64_t{8}, int64_t{10}, int64_t{65}, int64_t{576}, int64_t{1000}}) {
    for (const int64_t k : {int64_t{65}, int64_t{192}, int64_t{768}}) {
      for (const Trans tb : {Trans::kNo, Trans::kYes}) {
        if (kSanitized && n * k > 50'000) continue;
        check_rows_of<T>(device, tb, n, k);
      }
    }
  }
}

}  // namespace

TEST_CASE("cpu seam: gemm") {
  check_gemm<float>(Device::kCpu);
  check_gemm<double>(Device::kCpu);
}
TEST_CASE("cpu seam: gemm, same bits again and for any number of rows") {
  check_repeats<float>(Device::kCpu);
  check_rows<float>(Device::kCpu);
  check_rows<double>(Device::kCpu);
}

TEST_CASE("cuda: gemm f32" * doctest::skip(!cuda_available())) { check_gemm<float>(Device::kCuda); }
TEST_CASE("cuda: gemm f64" * doctest::skip(!cuda_available())) {
  check_gemm<double>(Device::kCuda);
}
TEST_CASE("cuda: gemm, same bits again" * doctest::skip(!cuda_available())) {
  check_repeats<float>(Device::kCuda);
  check_repeats<double>(Device::kCuda);
}
TEST_CASE("cuda: gemm, same bits of a row for any number of rows, f32" *
          doctest::skip(!cuda_available())) {
  check_rows<float>(Device::kCuda);
}
TEST_CASE("cuda: gemm, same bits of a row for any number of rows, f64" *
          doctest::skip(!cuda_available())) {
  check_rows<double>(Device::kCuda);
}
TEST_CASE("cuda: gemm bf16" * doctest::skip(!cuda_available())) {
  check_precision(Precision::kBf16);
}
TEST_CASE("cuda: gemm tf32" * doctest::skip(!cuda_available())) {
  check_precision(Precision::kTf32);
}
TEST_CASE("cuda: gemm, same bits of a row for any number of rows, bf16 and tf32" *
          doctest::skip(!cuda_available())) {
  for (const Precision precision : {Precision::kBf16, Precision::kTf32}) {
    for (const Trans tb : {Trans::kNo, Trans::kYes}) {
      check_rows_of<float>(Device::kCuda, tb, 10, 65, precision);
      check_rows_of<float>(Device::kCuda, tb, 576, 192, precision);
    }
  }
}
TEST_CASE("cuda: gemm bf16 rounds as the CPU does, NaN and infinity too" *
          doctest::skip(!cuda_available())) {
  Inputs<float> in(Trans::kNo, Trans::kNo, {9, 1, 1});
  in.b = {1};
  in.a = {1.00390625f, 1.01171875f, NAN, -INFINITY, 3.4e38f, 1e-40f, -0.0f, 1.0039062f, 65535.0f};
  const Case what{.precision = Precision::kBf16};
  const auto got = run(Device::kCuda, in, what).c;
  for (size_t i = 0; i < got.size(); ++i) {
    const float want = to_float(to_bf16(in.a[i]));
    CAPTURE(i);
    CHECK((std::isnan(want) ? std::isnan(got[i]) : got[i] == want));
  }
}
TEST_CASE("cuda: gemm of f64 in bf16 or tf32 is an error" * doctest::skip(!cuda_available())) {
  const Inputs<double> in(Trans::kNo, Trans::kNo, {2, 3, 4});
  CHECK_THROWS_AS(run(Device::kCuda, in, {.precision = Precision::kBf16}), Error);
  CHECK_THROWS_AS(run(Device::kCuda, in, {.precision = Precision::kTf32}), Error);
}
TEST_CASE("cpu seam: gemm in tf32 is an error") {
  const Inputs<float> in(Trans::kNo, Trans::kNo, {2, 3, 4});
  CHECK_THROWS_AS(run(Device::kCpu, in, {.precision = Precision::kTf32}), Error);
}
