#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

// Randomness as a pure function of where it is used: (seed, purpose, step, layer,
// sample, element). There is no generator with a state, so a draw does not depend
// on the order of draws, on threads, loader workers, micro-batches or devices, and a
// resumed run draws what the straight run would have drawn.
namespace engine {

// What a random number is for; part of the key, so that streams never meet.
enum class Purpose : uint32_t {
  kInit = 1,
  kRouterNoise,
  kExpertDropout,
  kShuffle,
  kAugment,
  kPairShuffle,
  kNoiseSweep,
  kData,
  kTest,
  kMix,
  kStochasticDepth,
  kAttack,
};

// splitmix64's finaliser: a bijection that mixes all bits.
constexpr uint64_t mix64(uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// Philox4x32-10 (Salmon et al., SC'11): a counter-based generator; 128 bits of
// counter and 64 bits of key give 128 random bits.
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// 52 bits of 64 as a uniform in (0, 1): never 0, never 1 (with 53 the largest would round up).
constexpr double uniform_from_bits(uint64_t bits) {
  return (static_cast<double>(bits >> 12) + 0.5) * (1.0 / 4503599627370496.0);
}

// The standard normal whose distribution function is p, 0 < p < 1 (Wichura's AS 241,
// PPND16, about 1e-16 relative). Uses +, *, /, sqrt and fma only, each of which IEEE
// rounds in one way, so every machine and device gives the same number.
double normal_from_uniform(double p);

// One stream of random numbers; element i is a pure function of the key and i.
class RngKey {
 public:
  constexpr RngKey(uint64_t seed, Purpose purpose)
      : key_(mix64(mix64(seed) ^ static_cast<uint64_t>(purpose))) {}

  // A stream of its own for each value: key.with(step).with(layer).with(sample).
  // Order matters: with(a).with(b) is not with(b).with(a).
  constexpr RngKey with(uint64_t value) const { return RngKey(mix64(key_ ^ mix64(value))); }

  constexpr uint64_t bits(uint64_t i) const {
    const auto r =
        philox({static_cast<uint32_t>(i >> 1), static_cast<uint32_t>(i >> 33), 0, 0}, key_);
    return (i & 1) != 0 ? (uint64_t{r[2]} << 32 | r[3]) : (uint64_t{r[0]} << 32 | r[1]);
  }
  // out[j] = bits(first + j) for all of out, several times as fast; first + j stays below 2^64.
  void bits(uint64_t first, std::span<uint64_t> out) const;
  // Uniform in (0, 1).
  constexpr double uniform(uint64_t i) const { return uniform_from_bits(bits(i)); }
  // For p below 1, bits(i) < below_uniform(p) says the same as uniform(i) < p.
  static constexpr uint64_t below_uniform(double p) {
    // (k + 1/2) / 2^52 < p for the upper 52 bits k; both sides are exact.
    const double most = p * 4503599627370496.0 - 0.5;
    if (most <= 0) return 0;
    uint64_t k = static_cast<uint64_t>(most);
    if (static_cast<double>(k) < most) ++k;
    return k << 12;
  }
  // Uniform integer in [0, n), n > 0; the bias is below n / 2^64.
  constexpr uint64_t below(uint64_t i, uint64_t n) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>((static_cast<Wide>(bits(i)) * n) >> 64);
  }
  // Standard normal.
  double normal(uint64_t i) const { return normal_from_uniform(uniform(i)); }

  constexpr uint64_t value() const { return key_; }

 private:
  constexpr explicit RngKey(uint64_t key) : key_(key) {}
  uint64_t key_;
};

// A key with a running index, for code that draws one number after another.
class RngStream {
 public:
  explicit RngStream(const RngKey& key) : key_(key) {}
  double uniform() { return key_.uniform(next_++); }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  // Uniform integer in [low, high), low < high.
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(key_.below(next_++, static_cast<uint64_t>(high - low)));
  }
  double normal() { return key_.normal(next_++); }

 private:
  RngKey key_;
  uint64_t next_ = 0;
};

}  // namespace engine
