#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/core/parallel.h"
#include "engine/gemm/gemm.h"
#include "tests/support/bits.h"
#include "tests/support/sanitized.h"

// What every product must hold, whatever its precision.
namespace engine::test {

using kernels::Epilogue;
using kernels::GemmSize;
using kernels::Trans;

inline constexpr Trans kBoth[] = {Trans::kNo, Trans::kYes};
inline constexpr GradWrite kWrites[] = {GradWrite::kOverwrite, GradWrite::kAccumulate};

// A product's operands, dense and not transposed, and what must come out.
template <class T>
struct Problem {
  explicit Problem(GemmSize s, Precision how = Precision::kF32)
      : size(s), precision(how), a(values<T>(s.m * s.k, 1)), b(values<T>(s.k * s.n, 2)) {}
  // An operand as it is multiplied.
  double rounded(T x) const {
    if (precision == Precision::kF32) return x;
    return to_float(to_bf16(static_cast<float>(x)));
  }
  // The product in f64, and the sum of |a b| of each element, which bounds the rounding.
  void solve() {
    want.assign(static_cast<size_t>(size.m * size.n), 0);
    magnitude = want;
    for (int64_t i = 0; i < size.m; ++i) {
      for (int64_t p = 0; p < size.k; ++p) {
        const double x = rounded(a[i * size.k + p]);
        for (int64_t j = 0; j < size.n; ++j) {
          const double xy = x * rounded(b[p * size.n + j]);
          want[i * size.n + j] += xy;
          magnitude[i * size.n + j] += std::abs(xy);
        }
      }
    }
  }
  // The error of element e as a share of what k + 4 roundings may cost.
  double share(size_t e, double got, double added = 0) const {
    const double eps = std::numeric_limits<T>::epsilon();
    const double error = std::abs(got - (want[e] + added));
    return error / (eps * (double(size.k) + 4) * (magnitude[e] + std::abs(added) + 1e-30));
  }
  GemmSize size;
  Precision precision;
  std::vector<T> a, b;
  std::vector<double> want, magnitude;
};

// (rows, cols) with `pad` NaN after each stored row, transposed if asked for.
template <class T>
std::vector<T> stored(const std::vector<T>& x, int64_t rows, int64_t cols, Trans trans,
                      int64_t pad) {
  const bool turn = trans == Trans::kYes;
  const int64_t lines = turn ? cols : rows, length = turn ? rows : cols, ld = length + pad;
  std::vector<T> out(static_cast<size_t>(lines * ld), std::numeric_limits<T>::quiet_NaN());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) out[turn ? j * ld + i : i * ld + j] = x[i * cols + j];
  }
  return out;
}

struct Layout {
  Trans ta = Trans::kNo, tb = Trans::kNo;
  int64_t pad = 0;
  bool serial = false;
};

// The product in a c that starts as `start`, with ldc = n + pad.
template <class T>
std::vector<T> run(const Problem<T>& p, const Layout& how, GradWrite write, std::vector<T> start,
                   const Epilogue<T>& epilogue = {}) {
  const GemmSize s = p.size;
  const auto a = stored(p.a, s.m, s.k, how.ta, how.pad);
  const auto b = stored(p.b, s.k, s.n, how.tb, how.pad);
  const int64_t lda = (how.ta == Trans::kYes ? s.m : s.k) + how.pad;
  const int64_t ldb = (how.tb == Trans::kYes ? s.k : s.n) + how.pad;
  if (how.serial) {
    kernels::gemm_serial<T>(how.ta, how.tb, s, a.data(), lda, b.data(), ldb, start.data(),
                            s.n + how.pad, write, p.precision);
  } else {
    kernels::gemm<T>(Cpu{}, how.ta, how.tb, s, a.data(), lda, b.data(), ldb, start.data(),
                     s.n + how.pad, write, epilogue, p.precision);
  }
  return start;
}

template <class T>
std::vector<T> product(const Problem<T>& p, const Layout& how = {}) {
  const auto count = static_cast<size_t>(p.size.m * (p.size.n + how.pad));
  return run(p, how, GradWrite::kOverwrite,
             std::vector<T>(count, std::numeric_limits<T>::quiet_NaN()));
}

// Every transpose, padding and way to write, on all threads and on one, against f64.
template <class T>
void check_all_layouts(GemmSize size, Precision precision = Precision::kF32) {
  CAPTURE(size.m);
  CAPTURE(size.n);
  CAPTURE(size.k);
  Problem<T> p(size, precision);
  p.solve();
  for (const Trans ta : kBoth) {
    for (const Trans tb : kBoth) {
      for (const GradWrite write : kWrites) {
        for (const int64_t pad : {0, 3}) {
          const int64_t ldc = size.n + pad;
          const bool adds = write == GradWrite::kAccumulate;
          auto start = values<T>(size.m * ldc, 3);
          const auto c = run(p, {ta, tb, pad, false}, write, start);
          CHECK(same_bytes(c, run(p, {ta, tb, pad, true}, write, start)));
          double worst = 0;
          bool padding_kept = true;
          for (int64_t i = 0; i < size.m; ++i) {
            for (int64_t j = 0; j < ldc; ++j) {
              const double before = start[i * ldc + j], got = c[i * ldc + j];
              if (j >= size.n) {
                padding_kept &= got == before;
              } else {
                const double share = p.share(i * size.n + j, got, adds ? before : 0);
                if (!(share <= worst)) worst = share;
              }
            }
          }
          CHECK(worst <= 1);
          CHECK(padding_kept);
        }
      }
    }
  }
}

inline const GemmSize kSizes[] = {{1, 1, 1},      {1, 1, 300},   {1, 48, 64},  {5, 47, 7},
                                  {8, 49, 256},   {9, 16, 257},  {4, 24, 255}, {97, 100, 33},
                                  {200, 17, 300}, {3, 15, 513},  {64, 96, 1},  {96, 48, 40},
                                  {95, 65, 40},   {2, 1000, 20}, {130, 3, 70}};

// Rows [begin, begin + count) of (rows, cols).
template <class T>
std::vector<T> rows_of(const std::vector<T>& x, int64_t cols, int64_t begin, int64_t count) {
  return {x.begin() + begin * cols, x.begin() + (begin + count) * cols};
}

// Whether rows of a product have the bits that they have alone or in other company, and
// columns those that they have among other columns.
template <class T>
bool company_shows_nowhere(int64_t n, int64_t k, const std::vector<int64_t>& counts,
                           Precision precision = Precision::kF32) {
  constexpr int64_t kRows = 511;
  const Problem<T> all({kRows, n, k}, precision);
  const auto whole = product(all);
  bool same = true;
  for (const int64_t count : counts) {
    for (const int64_t begin : {int64_t{0}, int64_t{13} % (kRows - count + 1), kRows - count}) {
      Problem<T> some({count, n, k}, precision);
      some.a = rows_of(all.a, k, begin, count);
      some.b = all.b;
      const auto rows = rows_of(whole, n, begin, count);
      same &= same_bytes(product(some), rows);
      if (count <= 9) same &= same_bytes(product(some, {Trans::kYes, Trans::kNo, 0, true}), rows);
    }
  }
  for (const int64_t cols : {int64_t{1}, int64_t{7}, n / 2, n - 1}) {
    for (const int64_t from : {int64_t{0}, n - cols}) {
      std::vector<T> c(static_cast<size_t>(9 * cols));
      kernels::gemm<T>(Cpu{}, Trans::kNo, Trans::kNo, {9, cols, k}, all.a.data(), k,
                       all.b.data() + from, n, c.data(), cols, GradWrite::kOverwrite, {},
                       precision);
      for (int64_t i = 0; i < 9; ++i) {
        same &= std::equal(c.begin() + i * cols, c.begin() + (i + 1) * cols,
                           whole.begin() + i * n + from);
      }
    }
  }
  return same;
}

inline double naive_gelu(double z, GeluForm form) {
  if (form == GeluForm::kErf) return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0)));
  return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
}

// All combinations of epilogues, ways to write and transposes for one size.
template <class T>
void check_epilogues(GemmSize size, Precision precision = Precision::kF32) {
  CAPTURE(size.k);
  Problem<T> p(size, precision);
  p.solve();
  const int64_t pad = 5, ldc = size.n + pad, count = size.m * ldc;
  const auto bias = values<T>(size.n, 4), residual = values<T>(count, 5),
             start = values<T>(count, 6);
  const T* const nothing = nullptr;
  for (int mask = 0; mask < 32; ++mask) {
    const bool adds = (mask & 8) != 0;
    CAPTURE(mask);
    std::vector<T> activated(static_cast<size_t>(count), T(-7));
    Epilogue<T> e;
    e.bias = (mask & 1) != 0 ? bias.data() : nothing;
    e.residual = (mask & 2) != 0 ? residual.data() : nothing;
    e.activated = (mask & 4) != 0 ? activated.data() : nullptr;
    e.form = (mask & 16) != 0 ? GeluForm::kErf : GeluForm::kTanh;
    const Layout how{(mask & 16) != 0 ? Trans::kYes : Trans::kNo, Trans::kNo, pad, false};
    const auto c = run(p, how, kWrites[adds ? 1 : 0], start, e);
    double worst = 0, worst_activated = 0;
    bool padding_kept = true;
    for (int64_t at = 0; at < count; ++at) {
      const int64_t i = at / ldc, j = at % ldc;
      if (j >= size.n) {
        padding_kept &= c[at] == start[at] && activated[at] == T(-7);
        continue;
      }
      const double added = (adds ? start[at] : 0) + (e.bias != nullptr ? bias[j] : 0) +
                           (e.residual != nullptr ? residual[at] : 0);
      const double error = std::abs(c[at] - p.want[i * size.n + j] - added);
      worst = std::max(worst, error / (p.magnitude[i * size.n + j] + 3));
      const double want = e.activated != nullptr ? naive_gelu(c[at], e.form) : -7;
      worst_activated = std::max(worst_activated, std::abs(activated[at] - want));
    }
    const double eps = std::numeric_limits<T>::epsilon();
    CHECK(worst < eps * (double(size.k) + 8));
    CHECK(worst_activated < 40 * eps);
    CHECK(padding_kept);
  }
}

// A grouped product and the same group by group.
template <class T>
struct Groups {
  Groups(std::vector<int32_t> o, int64_t n, int64_t k)
      : offset(std::move(o)),
        count(static_cast<int64_t>(offset.size()) - 1),
        size{offset.back(), n, k},
        a(values<T>(size.m * k, 1)),
        b(values<T>(count * k * n, 2)) {}
  Problem<T> one(int64_t g) const {
    Problem<T> p({offset[g + 1] - offset[g], size.n, size.k}, precision);
    p.a = rows_of(a, size.k, offset[g], p.size.m);
    p.b = rows_of(b, size.k * size.n, g, 1);
    return p;
  }
  Precision precision = Precision::kF32;
  std::vector<int32_t> offset;
  int64_t count;
  GemmSize size;
  std::vector<T> a, b;
};

inline const std::vector<int32_t> kOffsets[] = {{0, 5},
                                                {0, 0},
                                                {0, 0, 0, 7},
                                                {0, 7, 7, 7},
                                                {0, 100, 100, 101, 300},
                                                {0, 0, 3, 99, 196, 196, 197}};

template <class T>
void check_grouped(const std::vector<int32_t>& offset, int64_t n, int64_t k,
                   Precision precision = Precision::kF32) {
  Groups<T> groups(offset, n, k);
  groups.precision = precision;
  const int64_t m = groups.size.m;
  const auto bias = values<T>(groups.count * n, 4), start = values<T>(m * n, 5);
  for (const Trans tb : kBoth) {
    std::vector<T> b;
    for (int64_t g = 0; g < groups.count; ++g) {
      const auto one = stored(groups.one(g).b, k, n, tb, 0);
      b.insert(b.end(), one.begin(), one.end());
    }
    for (const GradWrite write : kWrites) {
      for (const bool with_epilogue : {false, true}) {
        std::vector<T> c = start, activated(start.size());
        Epilogue<T> e;
        if (with_epilogue) e = {bias.data(), nullptr, activated.data(), GeluForm::kTanh};
        kernels::grouped_gemm<T>(Cpu{}, tb, offset.data(), groups.count, groups.size,
                                 groups.a.data(), b.data(), c.data(), write, e, precision);
        for (int64_t g = 0; g < groups.count; ++g) {
          const Problem<T> p = groups.one(g);
          std::vector<T> want_activated(static_cast<size_t>(p.size.m * n));
          if (with_epilogue)
            e = {bias.data() + g * n, nullptr, want_activated.data(), GeluForm::kTanh};
          const auto want = run(p, {}, write, rows_of(start, n, offset[g], p.size.m), e);
          CHECK(same_bytes(rows_of(c, n, offset[g], p.size.m), want));
          if (!with_epilogue) continue;
          CHECK(same_bytes(rows_of(activated, n, offset[g], p.size.m), want_activated));
        }
      }
    }
  }
}

template <class T>
void check_grouped_transposed(const std::vector<int32_t>& offset, int64_t m, int64_t n,
                              Precision precision = Precision::kF32) {
  const auto groups = static_cast<int64_t>(offset.size()) - 1, rows = int64_t{offset.back()};
  const auto a = values<T>(rows * m, 1), b = values<T>(rows * n, 2),
             start = values<T>(groups * m * n, 3);
  for (const GradWrite write : kWrites) {
    std::vector<T> c = start;
    kernels::grouped_gemm_transposed<T>(Cpu{}, offset.data(), groups, {m, n, rows}, a.data(),
                                        b.data(), c.data(), write, precision);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t count = offset[g + 1] - offset[g];
      const auto a_g = rows_of(a, m, offset[g], count), b_g = rows_of(b, n, offset[g], count);
      auto want = rows_of(start, m * n, g, 1);
      kernels::gemm<T>(Cpu{}, Trans::kYes, Trans::kNo, {m, n, count}, a_g.data(), m, b_g.data(), n,
                       want.data(), n, write, {}, precision);
      CHECK(same_bytes(rows_of(c, m * n, g, 1), want));
      const bool adds = write == GradWrite::kAccumulate;
      const auto before =
          adds ? rows_of(start, m * n, g, 1) : std::vector<T>(static_cast<size_t>(m * n), T(0));
      if (count == 0) CHECK(same_bytes(rows_of(c, m * n, g, 1), before));
    }
  }
}

}  // namespace engine::test
