#include <doctest/doctest.h>

#include <vector>

#include "engine/gemm/gemm.h"
#include "engine/gemm/grouped_loop.h"
#include "tests/support/devices.h"
#include "tests/support/sanitized.h"

using namespace engine;
using namespace engine::test;
using kernels::Epilogue;
using kernels::GemmSize;
using kernels::Trans;

namespace {

using Offset = std::vector<int32_t>;

struct Case {
  Trans tb = Trans::kNo;
  bool bias = false, residual = false, activated = false, accumulate = false;
  GeluForm form = GeluForm::kTanh;
  Precision precision = Precision::kF32;
  bool loop = false;  // the reference form, on CUDA
};

// Whole tiles of 64 and 128 rows, fewer and more, groups without rows at either end.
const Offset kOffsets[] = {{0, 5},
                           {0, 0, 0, 7},
                           {0, 7, 7, 7},
                           {0, 128, 256},
                           {0, 0, 129, 131, 131, 260},
                           {0, 64, 127, 128, 200, 200}};

template <class T>
struct Inputs {
  Offset offset;
  GemmSize size;
  std::vector<T> a, b, c, bias, residual;

  // `behind`: rows after the last group.
  Inputs(Offset o, int64_t n, int64_t k, int64_t behind = 0)
      : offset(std::move(o)),
        size{offset.back() + behind, n, k},
        a(test_values<T>(1, size.m * k)),
        b(test_values<T>(2, groups() * k * n)),
        c(test_values<T>(3, size.m * n)),
        bias(test_values<T>(4, groups() * n)),
        residual(test_values<T>(5, size.m * n)) {}
  int64_t groups() const { return static_cast<int64_t>(offset.size()) - 1; }
};

template <class T>
struct Outputs {
  std::vector<T> c, activated;
};

template <class T>
Outputs<T> run(Device device, const Inputs<T>& in, const Case& what) {
  const Buffer a = upload(in.a, device), b = upload(in.b, device), c = upload(in.c, device),
               bias = upload(in.bias, device), residual = upload(in.residual, device),
               offset = upload(in.offset, device);
  const Buffer activated({static_cast<int64_t>(in.c.size())}, dtype_of<T>(), device);
  Epilogue<T> e;
  if (what.bias) e.bias = bias.data<const T>();
  if (what.residual) e.residual = residual.data<const T>();
  if (what.activated) e.activated = activated.data<T>();
  e.form = what.form;
  const GradWrite write = what.accumulate ? GradWrite::kAccumulate : GradWrite::kOverwrite;
  on_device(device, [&]<class On>(On backend) {
    if constexpr (std::is_same_v<On, Cuda>) {
      if (what.loop) {
        return kernels::grouped_gemm_loop<T>(backend, what.tb, in.offset.data(), in.groups(),
                                             in.size, a.data<const T>(), b.data<const T>(),
                                             c.data<T>(), write, e, what.precision);
      }
    }
    kernels::grouped_gemm<T>(backend, what.tb, offset.data<const int32_t>(), in.groups(), in.size,
                             a.data<const T>(), b.data<const T>(), c.data<T>(), write, e,
                             what.precision);
  });
  return {download<T>(c), download<T>(activated)};
}

template <class T>
std::vector<T> run_transposed(Device device, const Inputs<T>& in, GradWrite write,
                              Precision precision, bool loop = false) {
  // a (rows, m), "b" of c's shape is given as residual (rows, n)
  const int64_t rows = in.size.m, n = in.size.n, m = in.size.k;
  const Buffer a = upload(in.a, device), b = upload(in.residual, device), c = upload(in.b, device),
               offset = upload(in.offset, device);
  on_device(device, [&]<class On>(On backend) {
    if constexpr (std::is_same_v<On, Cuda>) {
      if (loop) {
        return kernels::grouped_gemm_transposed_loop<T>(
            backend, in.offset.data(), in.groups(), {m, n, rows}, a.data<const T>(),
            b.data<const T>(), c.data<T>(), write, precision);
      }
    }
    kernels::grouped_gemm_transposed<T>(backend, offset.data<const int32_t>(), in.groups(),
                                        {m, n, rows}, a.data<const T>(), b.data<const T>(),
                                        c.data<T>(), write, precision);
  });
  return download<T>(c);
}

template <class T>
std::vector<double> wide(const std::vector<T>& x) {
  return {x.begin(), x.end()};
}

// tf32 is compared with f32: the CPU has none.
Case on_cpu(Case what) {
  if (what.precision == Precision::kTf32) what.precision = Precision::kF32;
  return what;
}
template <class T>
double bound(Precision precision) {
  return precision == Precision::kTf32 ? 2e-3 : tolerance<T>();
}

template <class T>
void check_case(const Inputs<T>& in, const Case& what) {
  CAPTURE(in.size.n);
  CAPTURE(in.size.k);
  CAPTURE(in.size.m);
  CAPTURE(static_cast<int>(what.tb));
  CAPTURE(static_cast<int>(what.precision));
  CAPTURE(what.bias);
  CAPTURE(what.activated);
  CAPTURE(what.accumulate);
  const auto want = run(Device::kCpu, in, on_cpu(what)), got = run(Device::kCuda, in, what);
  CHECK(worst_error(got.c, wide(want.c)) < bound<T>(what.precision));
  CHECK(worst_error(got.activated, wide(want.activated)) < bound<T>(what.precision));
  CHECK(same_bits(run(Device::kCuda, in, what).c, got.c));
}

template <class T>
void check_transposed(const Inputs<T>& in, Precision precision) {
  CAPTURE(in.size.n);
  CAPTURE(in.size.k);
  CAPTURE(static_cast<int>(precision));
  for (const GradWrite write : {GradWrite::kOverwrite, GradWrite::kAccumulate}) {
    const auto want =
        run_transposed(Device::kCpu, in, write, on_cpu({.precision = precision}).precision);
    const auto got = run_transposed(Device::kCuda, in, write, precision);
    CHECK(worst_error(got, wide(want)) < bound<T>(precision));
  }
}

// Every layout around the sizes of tiles and steps, every epilogue, every kind of groups.
template <class T>
void check_all(Precision precision) {
  for (const Trans tb : {Trans::kNo, Trans::kYes}) {
    const Case plain{.tb = tb, .precision = precision};
    for (const Offset& offset : kOffsets) check_case(Inputs<T>(offset, 20, 24), plain);
    for (const auto& each : {std::pair{1, 1}, {5, 7}, {132, 12}, {65, 17}, {8, 100}, {64, 33}}) {
      const auto n = std::get<0>(each), k = std::get<1>(each);
      check_case(Inputs<T>({0, 3, 3, 72}, n, k), plain);
    }
    for (int mask = 0; mask < 16; ++mask) {
      Case what{tb, (mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0, (mask & 8) != 0};
      what.form = tb == Trans::kYes ? GeluForm::kErf : GeluForm::kTanh;
      what.precision = precision;
      check_case(Inputs<T>({0, 9, 9, 20}, 12, 16), what);
      check_case(Inputs<T>({0, 9, 9, 20}, 7, 9), what);
    }
  }
  check_case(Inputs<T>({0, 4, 6}, 8, 0), {.bias = true, .precision = precision});
  for (const Offset& offset : kOffsets) check_transposed(Inputs<T>(offset, 20, 12), precision);
  for (const auto& each : {std::pair{1, 1}, {5, 7}, {132, 12}, {65, 130}, {64, 33}}) {
    const auto n = std::get<0>(each), m = std::get<1>(each);
    check_transposed(Inputs<T>({0, 3, 3, 52}, n, m), precision);
  }
}

// Rows behind the last group: zeros where they are written, untouched where they are added to, and
// never read.
template <class T>
void check_rows_behind(Precision precision) {
  for (const int64_t behind : {1, 60, 300}) {
    for (const auto& each : {std::pair{12, 8}, {7, 5}}) {
      const auto n = std::get<0>(each), k = std::get<1>(each);
      const Inputs<T> all({0, 5, 5, 70}, n, k);
      Inputs<T> in({0, 5, 5, 70}, n, k, behind);
      std::fill(in.a.begin() + 70 * k, in.a.end(), T(NAN));
      std::fill(in.residual.begin() + 70 * n, in.residual.end(), T(NAN));
      const auto zeros = static_cast<size_t>(behind * n);
      for (const bool accumulate : {false, true}) {
        const Case what{
            .bias = true, .activated = true, .accumulate = accumulate, .precision = precision};
        auto want = run(Device::kCuda, all, what);
        if (accumulate) {
          want.c.insert(want.c.end(), in.c.begin() + 70 * n, in.c.end());
        } else {
          want.c.resize(want.c.size() + zeros);
        }
        want.activated.resize(want.activated.size() + zeros);
        const auto got = run(Device::kCuda, in, what);
        CHECK(same_bits(got.c, want.c));
        CHECK(same_bits(got.activated, want.activated));
      }
      const auto all_residual = std::vector<T>(in.residual.begin(), in.residual.begin() + 70 * n);
      CHECK(same_bits(all.residual, all_residual));
      CHECK(same_bits(run_transposed(Device::kCuda, in, GradWrite::kOverwrite, precision),
                      run_transposed(Device::kCuda, all, GradWrite::kOverwrite, precision)));
    }
  }
}

// A row has the same bits alone and among others.
template <class T>
void check_rows(Precision precision) {
  constexpr int64_t kRows = 200;
  for (const auto& each : {std::pair{20, 68}, {9, 35}}) {
    const auto n = std::get<0>(each), k = std::get<1>(each);
    for (const Trans tb : {Trans::kNo, Trans::kYes}) {
      const Case what{.tb = tb, .bias = true, .activated = true, .precision = precision};
      const Inputs<T> all({0, 0, kRows}, n, k);
      const auto whole = run(Device::kCuda, all, what);
      for (const int64_t row : {0, 1, 17, 63, 64, 130, 199}) {
        Inputs<T> one({0, 0, 1}, n, k);
        one.a.assign(all.a.begin() + row * k, all.a.begin() + (row + 1) * k);
        const auto got = run(Device::kCuda, one, what);
        const auto part = [&](const std::vector<T>& x) {
          return std::vector<T>(x.begin() + row * n, x.begin() + (row + 1) * n);
        };
        CHECK(same_bits(got.c, part(whole.c)));
        CHECK(same_bits(got.activated, part(whole.activated)));
      }
    }
  }
}

// Against one product a group by cuBLASLt, of the same rounded operands. tf32 is looser: which way
// operands are rounded to it is the library's.
template <class T>
void check_against_loop(Precision precision) {
  for (const Offset& offset : kOffsets) {
    if (kSanitized && offset.back() > 100) continue;
    for (const auto& each : {std::pair{20, 24}, {65, 33}}) {
      const Inputs<T> in(offset, std::get<0>(each), std::get<1>(each));
      for (const Trans tb : {Trans::kNo, Trans::kYes}) {
        Case what{.tb = tb, .bias = true, .activated = true, .precision = precision};
        what.accumulate = tb == Trans::kYes;
        const auto got = run(Device::kCuda, in, what);
        what.loop = true;
        const auto want = run(Device::kCuda, in, what);
        CHECK(worst_error(got.c, wide(want.c)) < bound<T>(precision));
        CHECK(worst_error(got.activated, wide(want.activated)) < bound<T>(precision));
      }
      for (const GradWrite write : {GradWrite::kOverwrite, GradWrite::kAccumulate}) {
        const auto want = run_transposed(Device::kCuda, in, write, precision, /*loop=*/true);
        const auto got = run_transposed(Device::kCuda, in, write, precision);
        CHECK(worst_error(got, wide(want)) < bound<T>(precision));
      }
    }
  }
}

}  // namespace

TEST_CASE("cuda: grouped products as a loop over products" * doctest::skip(!cuda_available())) {
  check_against_loop<float>(Precision::kF32);
  check_against_loop<float>(Precision::kBf16);
  if (kSanitized) return;  // minutes on the emulator
  check_against_loop<double>(Precision::kF32);
  check_against_loop<float>(Precision::kTf32);
}
TEST_CASE("cuda: grouped products f32" * doctest::skip(!cuda_available())) {
  check_all<float>(Precision::kF32);
}
TEST_CASE("cuda: grouped products f64" * doctest::skip(!cuda_available())) {
  check_all<double>(Precision::kF32);
}
TEST_CASE("cuda: grouped products bf16" * doctest::skip(!cuda_available())) {
  check_all<float>(Precision::kBf16);
}
TEST_CASE("cuda: grouped products tf32" * doctest::skip(!cuda_available())) {
  check_all<float>(Precision::kTf32);
}
TEST_CASE("cuda: grouped products, rows of no group" * doctest::skip(!cuda_available())) {
  check_rows_behind<float>(Precision::kF32);
  check_rows_behind<double>(Precision::kF32);
  check_rows_behind<float>(Precision::kBf16);
  check_rows_behind<float>(Precision::kTf32);
}
TEST_CASE("cuda: grouped products, same bits of a row in any company" *
          doctest::skip(!cuda_available())) {
  check_rows<float>(Precision::kF32);
  check_rows<double>(Precision::kF32);
  check_rows<float>(Precision::kBf16);
  check_rows<float>(Precision::kTf32);
}
TEST_CASE("cuda: grouped products, many groups" * doctest::skip(!cuda_available())) {
  Offset offset{0};
  for (int g = 0; g < 300; ++g) offset.push_back(offset.back() + (g % 7 == 3 ? 2 : 0));
  check_case(Inputs<float>(offset, 4, 4), {.bias = true});
  check_transposed(Inputs<float>(offset, 4, 4), Precision::kF32);
}
TEST_CASE("cuda: f64 has no products in bf16 or tf32" * doctest::skip(!cuda_available())) {
  const Inputs<double> in({0, 3}, 4, 4);
  CHECK_THROWS_AS(run(Device::kCuda, in, {.precision = Precision::kBf16}), Error);
  CHECK_THROWS_AS(run(Device::kCuda, in, {.precision = Precision::kTf32}), Error);
}
