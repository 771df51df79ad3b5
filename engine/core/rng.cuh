#pragma once

#include "engine/core/normal.h"
#include "engine/core/rng.h"

// Random numbers in kernels: RngKey as on the host, and the normal. CUDA sources only.
namespace engine {

// __host__ too, since nvcc counts constexpr functions, which call it, as both.
struct DeviceMath {
  static __host__ __device__ double fma(double x, double y, double z) { return ::fma(x, y, z); }
  static __host__ __device__ double sqrt(double x) { return ::sqrt(x); }
};

// key.normal(i), the same bits.
inline __device__ double normal_at(const RngKey& key, uint64_t i) {
  return normal_of<DeviceMath>(key.uniform(i));
}

}  // namespace engine
