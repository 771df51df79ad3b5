#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/core/buffer.h"
#include "engine/core/cpu_features.h"
#include "engine/gemm/bf16_tiles.h"
#include "tests/engine/gemm/gemm_checks.h"
#include "tests/support/bf16_tiles_reference.h"

using namespace engine;
using namespace engine::test;

namespace {

constexpr Precision kBf16 = Precision::kBf16;

bool no_amx() { return usable_isa() != Isa::kAmx || kernels::bf16_tiles_amx() == nullptr; }

// The ways to multiply in bf16 that this machine has, AMX last: products of rounded f32, which need
// no tiles, and the driver of tiles with the reference's.
std::vector<const kernels::Bf16Tiles*> methods() {
  std::vector<const kernels::Bf16Tiles*> all{nullptr, &bf16_tiles_reference()};
  if (!no_amx()) all.push_back(kernels::bf16_tiles_amx());
  return all;
}

// Every kind of block, also those with missing lines and elements.
struct Block {
  kernels::Bf16Packing how;
  int64_t lines, length;
};
std::vector<Block> blocks() {
  std::vector<Block> all;
  for (const bool turned : {false, true}) {
    for (const int64_t lines : {1, 7, 15, 16}) {
      for (const int64_t length : {1, 2, 15, 16, 17, 31, 32}) {
        all.push_back({{false, turned}, lines, length});
        all.push_back({{true, turned}, length, lines});
      }
    }
  }
  return all;
}

std::vector<bf16> packed(const kernels::Bf16Tiles& tiles, const Block& block,
                         const std::vector<float>& from, int64_t stride) {
  std::vector<bf16> out(kernels::kBf16Block, bf16{0x7fc0});
  tiles.pack(block.how, from.data(), stride, block.lines, block.length, out.data());
  return out;
}

}  // namespace

TEST_CASE("gemm in bf16: all transposes and strides match f64 on rounded operands") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    for (const GemmSize& size : kSizes) check_all_layouts<float>(size, kBf16);
    check_all_layouts<float>({70, 40, 1100}, kBf16);  // two blocks of k
    check_all_layouts<float>({7, 8, 0}, kBf16);
  }
}

TEST_CASE("gemm in bf16: operands are rounded to nearest, ties to even, products are exact") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    // 1 + 2^-8 lies between 1 and 1 + 2^-7: down, as that is even; 1 + 3 * 2^-8 goes up.
    const std::array<float, 9> x = {1.00390625f,  1.01171875f, 1.00390637f,
                                    -1.00390625f, 3.14159265f, 1e-20f,
                                    -2.71828183f, 65504.0f,    1.0f / 3};
    for (const float a : x) {
      for (const float b : x) {
        float c = -1;
        kernels::gemm<float>(Cpu{}, Trans::kNo, Trans::kNo, {1, 1, 1}, &a, 1, &b, 1, &c, 1,
                             GradWrite::kOverwrite, {}, kBf16);
        const float want = to_float(to_bf16(a)) * to_float(to_bf16(b));
        if (std::abs(want) < 1.2e-38f)
          continue;  // AMX takes numbers below the normal ones for zero
        CHECK(c == want);
      }
    }
    float c = 0;
    const float a = 1.00390625f, one = 1;
    kernels::gemm<float>(Cpu{}, Trans::kNo, Trans::kNo, {1, 1, 1}, &a, 1, &one, 1, &c, 1,
                         GradWrite::kOverwrite, {}, kBf16);
    CHECK(c == 1.0f);
  }
}

TEST_CASE("gemm in bf16: infinities and NaN stay what they are") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    for (const float bad : {inf, -inf, nan}) {
      std::vector<float> a(40 * 40, 1.0f), b(40 * 40, 1.0f), c(40 * 40);
      a[7 * 40 + 3] = bad;
      kernels::gemm<float>(Cpu{}, Trans::kNo, Trans::kNo, {40, 40, 40}, a.data(), 40, b.data(), 40,
                           c.data(), 40, GradWrite::kOverwrite, {}, kBf16);
      bool right = true;
      for (int64_t i = 0; i < 40; ++i) {
        for (int64_t j = 0; j < 40; ++j) {
          const float x = c[i * 40 + j];
          right &= i != 7 ? x == 40.0f : std::isnan(bad) ? std::isnan(x) : x == bad;
        }
      }
      CHECK(right);
    }
  }
}

TEST_CASE("gemm in bf16: same bits for a row alone and among others") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    for (const int64_t n : {8, 10, 65, 576}) {
      for (const int64_t k : {1, 64, 192, 769}) {
        if (kSanitized && n + k > 900) continue;
        CAPTURE(n);
        CAPTURE(k);
        CHECK(company_shows_nowhere<float>(n, k, {1, 2, 9, 16, 17, 33, 65, 511}, kBf16));
      }
    }
  }
}

TEST_CASE("gemm in bf16: same bits however the operands are stored, for any number of threads") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    for (const GemmSize& size : {GemmSize{1, 10, 300},
                                 GemmSize{33, 65, 768},
                                 GemmSize{511, 100, 64},
                                 {700, 10, 20},
                                 {100, 70, 1600}}) {
      const Problem<float> p(size, kBf16);
      const auto plain = product(p);
      CHECK_FALSE(same_bytes(plain, product(Problem<float>(size))));  // it does round
      for (const Trans ta : kBoth) {
        for (const Trans tb : kBoth) {
          CHECK(same_bytes(product(p, {ta, tb, 0, false}), plain));
          CHECK(same_bytes(product(p, {ta, tb, 0, true}), plain));
        }
        CHECK(same_bits_for_threads([&] { return product(p, {ta, Trans::kNo, 0, false}); }));
      }
    }
  }
}

TEST_CASE("gemm in bf16: the epilogue is applied once and in its order") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    for (const GemmSize& size : {GemmSize{5, 7, 3}, GemmSize{19, 50, 64}, GemmSize{9, 48, 769},
                                 GemmSize{40, 70, 1600}, GemmSize{5, 50, 0}}) {
      check_epilogues<float>(size, kBf16);
    }
  }
}

TEST_CASE("gemm in bf16: groups are the products of their own rows") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    for (const auto& offset : kOffsets) {
      check_grouped<float>(offset, 50, 70, kBf16);
      check_grouped<float>(offset, 7, 900, kBf16);
      check_grouped<float>(offset, 5, 0, kBf16);
      check_grouped_transposed<float>(offset, 50, 70, kBf16);
      check_grouped_transposed<float>(offset, 200, 33, kBf16);
    }
    check_grouped_transposed<float>({0, 10, 900, 1700}, 40, 33, kBf16);
  }
}

TEST_CASE("gemm in bf16: no rows or no columns touch nothing; runs inside a parallel region") {
  for (const kernels::Bf16Tiles* tiles : methods()) {
    const kernels::Bf16TilesScope scope_of_tiles(tiles);
    const float ab[4] = {1, 2, 3, 4};
    float c = 17;
    for (const GemmSize& size : {GemmSize{0, 2, 2}, GemmSize{2, 0, 2}}) {
      kernels::gemm<float>(Cpu{}, Trans::kYes, Trans::kNo, size, ab, 2, ab, 2, &c, 2,
                           GradWrite::kOverwrite, {}, kBf16);
      kernels::gemm_serial<float>(Trans::kNo, Trans::kNo, size, ab, 2, ab, 2, &c, 2,
                                  GradWrite::kOverwrite, kBf16);
    }
    CHECK(c == 17);
    const Problem<float> p({100, 60, 30}, kBf16);
    const auto want = product(p);
    std::vector<std::vector<float>> got(4);
    const Threads scope(4);
    parallel_tasks(4, [&](int64_t t) {
      got[static_cast<size_t>(t)] = product(p, {Trans::kNo, Trans::kYes, 0, t % 2 == 0});
    });
    for (const auto& one : got) CHECK(same_bytes(one, want));
  }
}

// Outputs beyond the caches' size are written past them where they lie on lines of their own.
template <class T>
void check_streamed(GemmSize size, Precision precision) {
  CAPTURE(size.k);
  const Problem<T> p(size, precision);
  const Shape shape{size.m, size.n};
  const auto bias = values<T>(size.n, 4), residual = values<T>(size.m * size.n, 5);
  // In memory of its own, or one element behind a line's begin, where nothing is streamed.
  const auto run_at = [&](int64_t shift, GradWrite write) {
    const Buffer c(Shape{size.m * size.n + 16}, dtype_of<T>()),
        activated(Shape{size.m * size.n + 16}, dtype_of<T>());
    T* const to = c.data<T>() + shift;
    std::fill_n(to, size.m * size.n, T(0.5));
    kernels::gemm<T>(Cpu{}, Trans::kNo, Trans::kNo, size, p.a.data(), size.k, p.b.data(), size.n,
                     to, size.n, write,
                     {bias.data(), residual.data(), activated.data<T>() + shift, GeluForm::kTanh},
                     precision);
    std::vector<T> out(to, to + size.m * size.n);
    out.insert(out.end(), activated.data<T>() + shift,
               activated.data<T>() + shift + size.m * size.n);
    return out;
  };
  for (const GradWrite write : kWrites) {
    const auto plain = run_at(1, write);
    for (const int threads : kSanitized ? std::vector<int>{2} : std::vector<int>{1, 2, 5}) {
      const Threads scope(threads);
      CHECK(same_bytes(run_at(0, write), plain));
    }
  }
}

TEST_CASE("gemm: outputs that go past the caches have the same bits") {
  for (const int64_t k : {40, 192, 193}) {
    if (kSanitized && k == 192) continue;
    check_streamed<float>({3100, 1024, k}, Precision::kF32);
    check_streamed<double>({3100, 512, k}, Precision::kF32);
  }
  for (const kernels::Bf16Tiles* tiles : methods()) {
    if (kSanitized && tiles == &bf16_tiles_reference()) continue;
    const kernels::Bf16TilesScope scope(tiles);
    for (const int64_t k : {40, 768, 769}) {
      if (!kSanitized || k != 768) check_streamed<float>({3100, 1024, k}, kBf16);
    }
    check_streamed<float>({3100, 1040, 40}, kBf16);  // a last panel of half the columns
  }
}

TEST_CASE("gemm in bf16: refuses f64") {
  const double x = 1;
  double c = 0;
  CHECK_THROWS_WITH_AS(kernels::gemm<double>(Cpu{}, Trans::kNo, Trans::kNo, {1, 1, 1}, &x, 1, &x, 1,
                                             &c, 1, GradWrite::kOverwrite, {}, kBf16),
                       doctest::Contains("takes f32"), Error);
}

TEST_CASE("bf16 tiles: where the compiler knows AMX, the program has it") {
#ifdef ROBUSTMOE_AMX
  CHECK(kernels::bf16_tiles_amx() != nullptr);
#else
  CHECK(kernels::bf16_tiles_amx() == nullptr);
#endif
}

TEST_CASE("bf16 tiles: AMX packs the same blocks as any machine" * doctest::skip(no_amx())) {
  constexpr int64_t kStride = 37;
  auto from = values<float>(32 * kStride, 7);
  from[3] = std::nanf("");
  from[5] = -std::numeric_limits<float>::infinity();
  from[40] = 1.00390625f;
  for (const Block& block : blocks()) {
    CAPTURE(block.how.pairs);
    CAPTURE(block.how.turned);
    CAPTURE(block.lines);
    CAPTURE(block.length);
    CHECK(same_bytes(packed(*kernels::bf16_tiles_amx(), block, from, kStride),
                     packed(bf16_tiles_reference(), block, from, kStride)));
  }
}

TEST_CASE("bf16 tiles: AMX multiplies as any machine but for the last bits" *
          doctest::skip(no_amx())) {
  constexpr int64_t kSteps = 6, kTile = kernels::kBf16Tile;
  std::vector<bf16> strip, panel;
  for (const float x : values<float>(kSteps * 2 * kernels::kBf16Block, 8))
    strip.push_back(to_bf16(x));
  for (const float x : values<float>(kSteps * 2 * kernels::kBf16Block, 9))
    panel.push_back(to_bf16(x));
  for (const int64_t rows : {1, 16, 17, 32}) {
    for (const int64_t cols : {1, 16, 17, 32}) {
      std::vector<float> amx(kTile * kTile, -3), portable(amx);
      kernels::bf16_tiles_amx()->begin();
      kernels::bf16_tiles_amx()->multiply(kSteps, rows, cols, strip.data(), panel.data(),
                                          amx.data(), kTile);
      kernels::bf16_tiles_amx()->end();
      bf16_tiles_reference().multiply(kSteps, rows, cols, strip.data(), panel.data(),
                                      portable.data(), kTile);
      double worst = 0;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          worst = std::max(worst, std::abs(double(amx[i * kTile + j]) - portable[i * kTile + j]));
        }
      }
      CHECK(worst < 2e-4);
      CHECK(portable[0] != 0.0f);
      bool kept = true;  // what lies beyond the half of a tile
      for (int64_t i = 0; i < kTile; ++i) {
        for (int64_t j = 0; j < kTile; ++j) {
          if (i >= (rows > 16 ? 32 : 16) || j >= (cols > 16 ? 32 : 16)) {
            kept &= amx[i * kTile + j] == -3 && portable[i * kTile + j] == -3;
          }
        }
      }
      CHECK(kept);
    }
  }
}
