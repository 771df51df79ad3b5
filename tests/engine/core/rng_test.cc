#include "engine/core/rng.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

using namespace engine;

namespace {

using Words = std::array<uint32_t, 4>;

const RngKey kKey(2024, Purpose::kTest);

// |a - b| in units of b's size.
double relative(double a, double b) { return std::abs(a - b) / std::abs(b); }

// Correlation of two streams' uniforms over n elements.
double correlation(const RngKey& a, const RngKey& b, uint64_t n) {
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) sum += (a.uniform(i) - 0.5) * (b.uniform(i) - 0.5);
  return sum * 12 / static_cast<double>(n);
}

}  // namespace

TEST_CASE("philox: published vectors") {
  CHECK(philox({0, 0, 0, 0}, 0) == Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(philox({~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}) ==
        Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  CHECK(philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0x299f31d0a4093822ull) ==
        Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("rng: a uniform is never 0 and never 1") {
  static_assert(uniform_from_bits(0) > 0);
  CHECK(uniform_from_bits(~uint64_t{0}) < 1);
  CHECK(uniform_from_bits(~uint64_t{0}) > 0.999999999999999);
  CHECK(uniform_from_bits(uint64_t{1} << 63) == doctest::Approx(0.5).epsilon(1e-15));
  CHECK(uniform_from_bits(1) == uniform_from_bits(0));
  bool rises = true;
  for (uint64_t i = 0; i + 1 < 4096; ++i) {
    rises &= uniform_from_bits(i << 52) < uniform_from_bits((i + 1) << 52);
  }
  CHECK(rises);
  CHECK(std::isfinite(normal_from_uniform(uniform_from_bits(0))));
  CHECK(std::isfinite(normal_from_uniform(uniform_from_bits(~uint64_t{0}))));
}

TEST_CASE("rng: normal quantiles") {
  // p and its quantile to 20 digits, of the f64 nearest to p.
  const struct {
    double p, x;
  } known[] = {{1e-300, -37.047096299361199237}, {1e-100, -21.273453560965324294},
               {1e-12, -7.0344838253011319326},  {1.388794386496402e-11, -6.6579046435011036008},
               {1e-10, -6.3613409024040561991},  {0.001, -3.0902323061678135354},
               {0.025, -1.9599639845400542118},  {0.074, -1.4466320671589785099},
               {0.075, -1.4395314709384559349},  {0.076, -1.4325027208258116188},
               {0.1, -1.2815515655446004353},    {0.3, -0.52440051270804081597},
               {0.925, 1.4395314709384562291},   {0.975, 1.9599639845400538556},
               {0.99, 2.3263478740408407676},    {0.999, 3.0902323061678132778}};
  for (const auto& one : known) {
    CAPTURE(one.p);
    CHECK(relative(normal_from_uniform(one.p), one.x) < 2e-15);
  }
  CHECK(normal_from_uniform(0.5) == 0);
}

TEST_CASE("rng: the normal quantile inverts erfc everywhere") {
  double worst = 0;
  for (int i = 1; i < 20000; ++i) {
    const double p = i / 20000.0;
    worst = std::max(worst, relative(0.5 * std::erfc(-normal_from_uniform(p) * M_SQRT1_2), p));
  }
  for (double p = 1e-290; p < 0.1; p *= 3) {
    // d log p / dx grows with |x|, up to 37.
    worst = std::max(worst, relative(0.5 * std::erfc(-normal_from_uniform(p) * M_SQRT1_2), p) / 40);
  }
  CHECK(worst < 5e-14);
}

TEST_CASE("rng: the normal quantile is odd and rises") {
  double before = -40;
  bool odd = true, rises = true;
  for (int i = 1; i < 4096; ++i) {  // multiples of 2^-12: 1 - p is exact
    const double p = i / 4096.0, x = normal_from_uniform(p);
    odd &= x == -normal_from_uniform(1 - p);
    rises &= x > before;
    before = x;
  }
  CHECK(odd);
  CHECK(rises);
}

TEST_CASE("rng: the normal quantile has the same bits in every build") {
  CHECK(normal_from_uniform(0.3) == -0x1.0c7e39582c5fbp-1);
  CHECK(normal_from_uniform(0.01) == -0x1.29c5c4630ff0ep+1);
  CHECK(normal_from_uniform(0.9999) == 0x1.dc08bb7128978p+1);
  CHECK(normal_from_uniform(1e-20) == -0x1.2865170b43a4cp+3);
}

TEST_CASE("rng: moments of normal draws") {
  constexpr uint64_t kCount = 200'000;
  double m[5] = {};
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = kKey.normal(i);
    for (int j = 1; j <= 4; ++j) m[j] += std::pow(x, j) / kCount;
  }
  // Within 4.5 standard errors: sqrt of 1, 2, 15, 96 over n.
  const double root = 4.5 / std::sqrt(double(kCount));
  CHECK(std::abs(m[1]) < root);
  CHECK(std::abs(m[2] - 1) < root * std::sqrt(2));
  CHECK(std::abs(m[3]) < root * std::sqrt(15));
  CHECK(std::abs(m[4] - 3) < root * std::sqrt(96));
}

TEST_CASE("rng: uniform draws fill the interval") {
  constexpr uint64_t kCount = 100'000;
  std::vector<double> u(kCount);
  for (uint64_t i = 0; i < kCount; ++i) u[i] = kKey.uniform(i);
  double serial = 0;
  for (uint64_t i = 0; i + 1 < kCount; ++i) serial += (u[i] - 0.5) * (u[i + 1] - 0.5) * 12 / kCount;
  CHECK(std::abs(serial) < 4.5 / std::sqrt(double(kCount)));
  std::sort(u.begin(), u.end());
  double gap = 0;  // Kolmogorov and Smirnov
  for (uint64_t i = 0; i < kCount; ++i) gap = std::max(gap, std::abs(u[i] - (i + 0.5) / kCount));
  CHECK(gap < 2.0 / std::sqrt(double(kCount)));
  CHECK(u.front() > 0);
  CHECK(u.back() < 1);
  CHECK(std::adjacent_find(u.begin(), u.end()) == u.end());
}

TEST_CASE("rng: below is even over its range") {
  for (const uint64_t n : {1, 2, 7, 10}) {
    std::vector<double> count(n, 0);
    for (uint64_t i = 0; i < 70'000; ++i) {
      const uint64_t x = kKey.below(i, n);
      REQUIRE(x < n);
      ++count[x];
    }
    const double fair = 70'000.0 / static_cast<double>(n);
    double chi2 = 0;
    for (const double c : count) chi2 += (c - fair) * (c - fair) / fair;
    CHECK(chi2 < 35);  // 9 degrees of freedom: one in 20,000
  }
  CHECK(kKey.below(0, ~uint64_t{0}) < ~uint64_t{0});
}

TEST_CASE("rng: a draw is a function of key and element") {
  const RngKey again(2024, Purpose::kTest);
  const uint64_t last = kKey.bits(1'000'000);
  CHECK(again.bits(7) == kKey.bits(7));
  CHECK(again.bits(1'000'000) == last);
  CHECK(again.value() == kKey.value());
  static_assert(RngKey(1, Purpose::kTest).bits(3) == RngKey(1, Purpose::kTest).bits(3));
  CHECK(kKey.uniform(5) == uniform_from_bits(kKey.bits(5)));
  CHECK(kKey.normal(5) == normal_from_uniform(kKey.uniform(5)));
}

TEST_CASE("rng: elements use both halves of a block and all of the index") {
  const auto block = philox({3, 0, 0, 0}, kKey.value());
  CHECK(kKey.bits(6) == (uint64_t{block[0]} << 32 | block[1]));
  CHECK(kKey.bits(7) == (uint64_t{block[2]} << 32 | block[3]));
  const auto far = philox({2, 1, 0, 0}, kKey.value());
  CHECK(kKey.bits((uint64_t{1} << 33) + 4) == (uint64_t{far[0]} << 32 | far[1]));
}

TEST_CASE("rng: many elements at a time are the same elements") {
  const RngKey key = RngKey(3, Purpose::kTest).with(5);
  constexpr uint64_t kFar = (uint64_t{1} << 33) - 91;  // the counter's low half ends on the way
  for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{126}, uint64_t{127}, kFar}) {
    for (const size_t count : {0, 1, 2, 127, 128, 129, 300}) {
      std::vector<uint64_t> out(count + 1, 7);
      key.bits(first, std::span(out).first(count));
      bool same = out[count] == 7;
      for (size_t j = 0; j < count; ++j) same &= out[j] == key.bits(first + j);
      CHECK(same);
    }
  }
}

TEST_CASE("rng: a threshold on bits is one on the uniform number") {
  const auto as_uniform = [](uint64_t bits) { return uniform_from_bits(bits); };
  for (const double p : {0.0, 1e-17, 1e-16, 3e-16, 0.1, 0.2, 0.5, 2.0 / 3, 0.999999999999999,
                         1 - 1.1102230246251565e-16}) {
    CAPTURE(p);
    const uint64_t threshold = RngKey::below_uniform(p);
    // The last number below it, and the first that is not.
    if (threshold > 0) CHECK(as_uniform(threshold - 1) < p);
    CHECK_FALSE(as_uniform(threshold) < p);
  }
}

TEST_CASE("rng: seeds purposes and steps have streams of their own") {
  std::vector<RngKey> keys;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    for (uint32_t purpose = 1; purpose <= 9; ++purpose) {
      keys.emplace_back(seed, static_cast<Purpose>(purpose));
    }
  }
  for (uint64_t step = 0; step < 20'000; ++step) keys.push_back(kKey.with(step));
  for (uint64_t step = 0; step < 100; ++step) {
    for (uint64_t sample = 0; sample < 100; ++sample) keys.push_back(kKey.with(step).with(sample));
  }
  std::vector<uint64_t> first;
  first.reserve(2 * keys.size());
  for (const RngKey& key : keys) {
    first.push_back(key.bits(0));
    first.push_back(key.value());
  }
  std::sort(first.begin(), first.end());
  CHECK(std::adjacent_find(first.begin(), first.end()) == first.end());
}

TEST_CASE("rng: order of with matters") {
  CHECK(kKey.with(1).with(2).value() != kKey.with(2).with(1).value());
  CHECK(kKey.with(0).value() != kKey.value());
  CHECK(kKey.with(0).with(0).value() != kKey.with(0).value());
}

TEST_CASE("rng: neighbouring streams are independent") {
  constexpr uint64_t kCount = 20'000;
  const double bound = 5 / std::sqrt(double(kCount));
  for (uint64_t a = 0; a < 4; ++a) {
    CHECK(std::abs(correlation(kKey.with(a), kKey.with(a + 1), kCount)) < bound);
    CHECK(std::abs(correlation(RngKey(a, Purpose::kInit), RngKey(a + 1, Purpose::kInit), kCount)) <
          bound);
    CHECK(std::abs(correlation(RngKey(a, Purpose::kInit), RngKey(a, Purpose::kShuffle), kCount)) <
          bound);
  }
  // The same element of many streams, as noise of one patch over samples.
  double sum = 0, squares = 0;
  for (uint64_t sample = 0; sample < kCount; ++sample) {
    const double x = kKey.with(sample).normal(3);
    sum += x / kCount;
    squares += x * x / kCount;
  }
  CHECK(std::abs(sum) < bound);
  CHECK(std::abs(squares - 1) < bound * std::sqrt(2));
}

TEST_CASE("rng: a stream draws its key's elements one after another") {
  RngStream stream(kKey);
  CHECK(stream.uniform() == kKey.uniform(0));
  CHECK(stream.normal() == kKey.normal(1));
  CHECK(stream.integer(-3, 4) == -3 + static_cast<int64_t>(kKey.below(2, 7)));
  const double x = stream.uniform(-2, 6);
  CHECK(x == doctest::Approx(-2 + 8 * kKey.uniform(3)).epsilon(1e-15));
}

TEST_CASE("rng: ranges of a stream") {
  RngStream stream(kKey.with(9));
  bool met[5] = {};
  for (int i = 0; i < 1000; ++i) {
    const int64_t x = stream.integer(-2, 3);
    REQUIRE(x >= -2);
    REQUIRE(x < 3);
    met[x + 2] = true;
    const double u = stream.uniform(10, 11);
    REQUIRE(u >= 10);
    REQUIRE(u <= 11);
  }
  CHECK(std::all_of(met, met + 5, [](bool m) { return m; }));
  CHECK(stream.integer(5, 6) == 5);
}
