#include "engine/gemm/gemm.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/cpu_features.h"
#include "engine/gemm/register_tile.h"
#include "tests/engine/gemm/gemm_checks.h"

using namespace engine;
using namespace engine::test;

TEST_CASE("gemm: all transposes and strides match a naive f64 reference") {
  for (const GemmSize& size : kSizes) {
    check_all_layouts<float>(size);
    check_all_layouts<double>(size);
  }
}

// Whether every element of a register tile is one chain of std::fma, in all its forms, and nothing
// behind the needed columns' last register is written.
template <class T, class Tile>
bool is_a_chain(int64_t col) {
  constexpr int64_t kCols = Tile::kCols, kDepth = 37;
  const auto a = values<T>(8 * kDepth * 2, 1), b = values<T>(kDepth * kCols, 2);
  const int64_t row = col == 1 ? kDepth + 2 : 1;
  bool same = true;
  for (int64_t rows = 1; rows <= Tile::kRows; ++rows) {
    for (const int64_t cols : {int64_t{1}, kCols / 3, kCols / 3 + 1, 2 * kCols / 3, kCols}) {
      for (const int64_t depth : {int64_t{0}, int64_t{1}, int64_t{4}, kDepth}) {
        // Rows in an array of their own width, and in one that is wider.
        const int64_t stride = depth == 4 ? kCols + 5 : kCols;
        std::vector<T> tile(static_cast<size_t>((rows + 1) * stride), T(7));
        Tile::multiply(rows, cols, depth, {a.data(), row, col}, b.data(), tile.data(), stride,
                       {b.data(), 0});
        for (int64_t i = 0; i < rows + 1; ++i) {
          const int64_t written = i < rows ? cols : 0;
          for (int64_t j = 0; j < written; ++j) {
            T chain = 0;
            for (int64_t p = 0; p < depth; ++p) {
              chain = std::fma(a[i * row + p * col], b[p * kCols + j], chain);
            }
            same &= tile[i * stride + j] == chain;
          }
          const auto behind = tile.begin() + i * stride + (i < rows ? kCols : 0);
          const auto row_end = tile.begin() + (i + 1) * stride;
          same &= std::count(behind, row_end, T(7)) == row_end - behind;
        }
      }
    }
  }
  return same;
}

TEST_CASE("gemm: more panels than stay in the cache, over several blocks of k") {
  const Threads one(1);
  check_all_layouts<float>({20, 900, 300});
  check_all_layouts<double>({20, 500, 300});
}

TEST_CASE("gemm: register tiles of this build are chains of fused multiply-adds") {
  for (const int64_t col : {1, 8}) {
    CHECK(is_a_chain<float, kernels::BaseTile<float>>(col));
    CHECK(is_a_chain<double, kernels::BaseTile<double>>(col));
  }
}

TEST_CASE("gemm: register tiles of AVX-512 are chains of fused multiply-adds" *
          doctest::skip(usable_isa() < Isa::kAvx512 || kernels::f32_tile_avx512() == nullptr)) {
  for (const int64_t col : {1, 8}) CHECK(is_a_chain<float, kernels::Avx512Tile>(col));
}

TEST_CASE("gemm: where the compiler knows AVX-512, the program has it") {
  const bool has = kernels::f32_tile_avx512() != nullptr;
#ifdef ROBUSTMOE_AVX512
  CHECK(has);
#else
  CHECK_FALSE(has);
#endif
}

TEST_CASE("gemm: an element is one chain of fused multiply-adds over k") {
  const Problem<float> p({7, 53, 64});
  const auto c = product(p);
  bool same = true;
  for (int64_t i = 0; i < 7; ++i) {
    for (int64_t j = 0; j < 53; ++j) {
      float chain = 0;
      for (int64_t q = 0; q < 64; ++q) chain = std::fma(p.a[i * 64 + q], p.b[q * 53 + j], chain);
      same &= c[i * 53 + j] == chain;
    }
  }
  CHECK(same);
}

TEST_CASE("gemm: same bits for a row alone and among others") {
  for (const int64_t n : {8, 10, 65, 576, 1000}) {
    for (const int64_t k : {1, 64, 192, 768, 1000}) {
      if (kSanitized && n + k > 700) continue;
      CAPTURE(n);
      CAPTURE(k);
      CHECK(company_shows_nowhere<float>(n, k, {1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 511}));
    }
  }
  for (const int64_t n : {10, 65}) {
    for (const int64_t k : {1, 300}) CHECK(company_shows_nowhere<double>(n, k, {1, 4, 5, 33}));
  }
}

TEST_CASE("gemm: same bits however the operands are stored") {
  for (const GemmSize& size :
       {GemmSize{1, 10, 300}, GemmSize{33, 65, 768}, GemmSize{511, 100, 64}}) {
    const Problem<float> p(size);
    const auto plain = product(p);
    for (const Trans ta : kBoth) {
      for (const Trans tb : kBoth) {
        CHECK(same_bytes(product(p, {ta, tb, 0, false}), plain));
        CHECK(same_bytes(product(p, {ta, tb, 0, true}), plain));
      }
    }
  }
}

TEST_CASE("gemm: same bits for any number of threads") {
  for (const Trans ta : kBoth) {
    for (const GemmSize& size : {GemmSize{300, 200, 300}, GemmSize{3, 1000, 64},
                                 GemmSize{700, 10, 20}, GemmSize{64, 64, 1500}}) {
      const Problem<float> p(size);
      CHECK(test::same_bits_for_threads([&] { return product(p, {ta, Trans::kNo, 0, false}); }));
    }
  }
}

TEST_CASE("gemm: the epilogue is applied once and in its order") {
  for (const GemmSize& size : {GemmSize{5, 7, 3}, GemmSize{19, 50, 64}, GemmSize{9, 48, 600}}) {
    check_epilogues<float>(size);
    check_epilogues<double>(size);
  }
}

TEST_CASE("gemm: rows with an epilogue have the same bits alone and among others") {
  for (const GeluForm form : {GeluForm::kTanh, GeluForm::kErf}) {
    const int64_t n = 53, k = 300;
    const Problem<float> all({100, n, k});
    const auto bias = values<float>(n, 4);
    const auto with = [&](int64_t begin, int64_t count) {
      Problem<float> p({count, n, k});
      p.a = rows_of(all.a, k, begin, count);
      p.b = all.b;
      std::vector<float> activated(static_cast<size_t>(count * n)), c(activated.size());
      run(p, {}, GradWrite::kOverwrite, c, {bias.data(), nullptr, activated.data(), form});
      return activated;
    };
    const auto whole = with(0, 100);
    for (const int64_t count : {1, 3, 7, 50}) {
      CHECK(same_bytes(with(100 - count, count), rows_of(whole, n, 100 - count, count)));
      CHECK(same_bytes(with(11, count), rows_of(whole, n, 11, count)));
    }
  }
}

TEST_CASE("gemm: a product over nothing is zeros and still gets its epilogue") {
  check_all_layouts<float>({7, 8, 0});
  check_all_layouts<double>({100, 50, 0});
  check_epilogues<float>({5, 50, 0});
  check_epilogues<double>({1, 1, 0});
}

TEST_CASE("gemm: no rows or no columns touch nothing") {
  const float ab[4] = {1, 2, 3, 4};
  for (const Trans ta : kBoth) {
    float c = 17;
    kernels::gemm<float>(Cpu{}, ta, Trans::kNo, {0, 2, 2}, ab, 2, ab, 2, &c, 2,
                         GradWrite::kOverwrite);
    kernels::gemm<float>(Cpu{}, ta, Trans::kNo, {2, 0, 2}, ab, 2, ab, 2, &c, 2,
                         GradWrite::kOverwrite);
    kernels::gemm_serial<float>(ta, Trans::kNo, {0, 2, 2}, ab, 2, ab, 2, &c, 2,
                                GradWrite::kOverwrite);
    kernels::gemm_serial<float>(ta, Trans::kNo, {2, 0, 2}, ab, 2, ab, 2, &c, 2,
                                GradWrite::kOverwrite);
    CHECK(c == 17);
  }
}

TEST_CASE("gemm: runs inside a parallel region") {
  const Problem<float> p({100, 60, 30});
  const auto want = product(p);
  std::vector<std::vector<float>> got(4);
  const test::Threads scope(4);
  parallel_tasks(4, [&](int64_t t) {
    got[static_cast<size_t>(t)] = product(p, {Trans::kNo, Trans::kYes, 0, t % 2 == 0});
  });
  for (const auto& c : got) CHECK(same_bytes(c, want));
}

TEST_CASE("grouped_gemm: same bits as a product for each group") {
  for (const auto& offset : kOffsets) {
    CAPTURE(offset.size());
    check_grouped<float>(offset, 53, 300);
    check_grouped<float>(offset, 8, 1);
    check_grouped<float>(offset, 5, 0);
    check_grouped<double>(offset, 25, 7);
  }
}

TEST_CASE("grouped_gemm_transposed: same bits as a product for each group") {
  for (const auto& offset : kOffsets) {
    CAPTURE(offset.size());
    check_grouped_transposed<float>(offset, 7, 53);
    check_grouped_transposed<float>(offset, 130, 10);
    check_grouped_transposed<double>(offset, 1, 1);
    check_grouped_transposed<double>(offset, 60, 25);
  }
}

TEST_CASE("grouped_gemm_transposed: nothing to do") {
  const int32_t offset[] = {0, 0};
  float c = 5;
  for (const GemmSize& size : {GemmSize{0, 4, 0}, GemmSize{4, 0, 0}}) {
    kernels::grouped_gemm_transposed<float>(Cpu{}, offset, 1, size, &c, &c, &c,
                                            GradWrite::kOverwrite);
  }
  kernels::grouped_gemm_transposed<float>(Cpu{}, offset, 0, {4, 4, 0}, &c, &c, &c,
                                          GradWrite::kOverwrite);
  CHECK(c == 5);
}

TEST_CASE("grouped_gemm: same bits for any number of threads") {
  const Groups<float> groups({0, 0, 300, 301, 500, 500}, 70, 90);
  CHECK(test::same_bits_for_threads([&] {
    std::vector<float> c(500 * 70);
    kernels::grouped_gemm<float>(Cpu{}, Trans::kNo, groups.offset.data(), 5, groups.size,
                                 groups.a.data(), groups.b.data(), c.data(), GradWrite::kOverwrite);
    return c;
  }));
  CHECK(test::same_bits_for_threads([&] {
    std::vector<float> c(5 * 70 * 90, -1);
    const auto b = values<float>(500 * 70, 9);
    kernels::grouped_gemm_transposed<float>(Cpu{}, groups.offset.data(), 5, {90, 70, 500},
                                            groups.a.data(), b.data(), c.data(),
                                            GradWrite::kOverwrite);
    return c;
  }));
}
