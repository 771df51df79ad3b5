#include "engine/core/rng.h"

#include <algorithm>

#include "engine/core/normal.h"

namespace engine {
namespace {

struct StdMath {
  static double fma(double x, double y, double z) { return std::fma(x, y, z); }
  static double sqrt(double x) { return std::sqrt(x); }
};

// Both numbers of each of kLanes counters from `counter` on: philox(), one round after the other
// for all of them: many, so that compilers make vector instructions of the loops instead of
// unrolling them.
constexpr int kLanes = 64;
void philox_lanes(uint64_t counter, uint64_t key, uint64_t out[2 * kLanes]) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes] = {}, c3[kLanes] = {};
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t c = counter + static_cast<uint64_t>(l);
    c0[l] = static_cast<uint32_t>(c);
    c1[l] = static_cast<uint32_t>(c >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < kLanes; ++l) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0[l], p1 = uint64_t{0xCD9E8D57u} * c2[l];
      c0[l] = static_cast<uint32_t>(p1 >> 32) ^ c1[l] ^ k0;
      c1[l] = static_cast<uint32_t>(p1);
      c2[l] = static_cast<uint32_t>(p0 >> 32) ^ c3[l] ^ k1;
      c3[l] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int l = 0; l < kLanes; ++l) {
    out[2 * l] = uint64_t{c0[l]} << 32 | c1[l];
    out[2 * l + 1] = uint64_t{c2[l]} << 32 | c3[l];
  }
}

}  // namespace

void RngKey::bits(uint64_t first, std::span<uint64_t> out) const {
  uint64_t block[2 * kLanes];
  uint64_t skip = first & 1;  // a counter gives two numbers
  for (size_t at = 0; at < out.size();) {
    philox_lanes((first + at) >> 1, key_, block);
    const size_t count = std::min<size_t>(2 * kLanes - skip, out.size() - at);
    std::copy_n(block + skip, count, out.data() + at);
    at += count;
    skip = 0;
  }
}

double normal_from_uniform(double p) { return normal_of<StdMath>(p); }

}  // namespace engine
