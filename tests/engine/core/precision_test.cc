#include "engine/core/precision.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "engine/core/rng.h"

using namespace engine;

namespace {

uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }
float rounded(float x) { return to_float(to_bf16(x)); }

}  // namespace

TEST_CASE("bf16: every bf16 comes back unchanged") {
  int changed = 0, lost_nans = 0;
  for (uint32_t b = 0; b < 65536; ++b) {
    const bf16 x{static_cast<uint16_t>(b)};
    const float f = to_float(x);
    if (std::isnan(f)) {
      lost_nans += std::isnan(rounded(f)) ? 0 : 1;
    } else {
      changed += to_bf16(f).bits == x.bits ? 0 : 1;
    }
  }
  CHECK(changed == 0);
  CHECK(lost_nans == 0);
}

TEST_CASE("bf16: ties go to the even neighbour") {
  CHECK(to_bf16(float_of(0x3f808000u)).bits == 0x3f80);  // between 3f80 and 3f81: down
  CHECK(to_bf16(float_of(0x3f818000u)).bits == 0x3f82);  // between 3f81 and 3f82: up
  CHECK(to_bf16(float_of(0x3f808001u)).bits == 0x3f81);
  CHECK(to_bf16(float_of(0x3f807fffu)).bits == 0x3f80);
  CHECK(to_bf16(float_of(0xbf818000u)).bits == 0xbf82);
  CHECK(to_bf16(float_of(0x3fff8000u)).bits == 0x4000);  // carries into the exponent
  CHECK(to_bf16(float_of(0x00008000u)).bits == 0x0000);  // subnormal tie
  CHECK(to_bf16(float_of(0x00018000u)).bits == 0x0002);
}

TEST_CASE("bf16: rounds to the nearest") {
  const RngKey key(1, Purpose::kTest);
  int wrong = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    const float x = float_of(static_cast<uint32_t>(key.bits(i)));
    if (!(std::fabs(x) < 3e38f)) continue;
    const uint32_t down = bits_of(x) & 0xffff0000u;
    const double low = float_of(down), high = float_of(down + 0x10000u);
    const double got = rounded(x);
    const double best = std::min(std::fabs(x - low), std::fabs(x - high));
    wrong += std::fabs(x - got) == best && (got == low || got == high) ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("bf16: zeros infinities and the largest") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(to_bf16(0.0f).bits == 0);
  CHECK(to_bf16(-0.0f).bits == 0x8000);
  CHECK(to_bf16(inf).bits == 0x7f80);
  CHECK(to_bf16(-inf).bits == 0xff80);
  CHECK(to_bf16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(to_bf16(float_of(0x7f7f7fffu)).bits == 0x7f7f);
}

TEST_CASE("bf16: NaN stays a quiet NaN") {
  for (const uint32_t nan :
       {0x7fc00000u, 0x7f800001u, 0x7f80ffffu, 0x7fffffffu, 0xffffffffu, 0xff800001u}) {
    const bf16 x = to_bf16(float_of(nan));
    CHECK((x.bits & 0x7fc0) == 0x7fc0);
    CHECK((x.bits >> 15) == (nan >> 31));
    CHECK(std::isnan(to_float(x)));
  }
}
