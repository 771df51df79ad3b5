#pragma once

#include <cstdint>

#include "engine/core/precision.h"
#ifndef __CUDACC__
#include <emulated_mma.h>
#endif

// Products of a warp on tensor cores, c (16,8) += a (16,k) b (k,8), and the formats that they take.
// A word is kPerWord neighbours along k; a step is 8 words. Lane 4g + t (t < 4) holds
//   a: words t and t + 4 of rows g and g + 8, as {(g,t), (g+8,t), (g,t+4), (g+8,t+4)}
//   b: words t and t + 4 of column g
//   c: columns 2t, 2t + 1 of rows g and g + 8, row g first
// CUDA sources only.
namespace engine::kernels {

struct Bf16Words {
  static constexpr int kPerWord = 2;

  static __device__ uint32_t pack(const float (&x)[kPerWord]) {
#ifdef __CUDACC__
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(x[1]), "f"(x[0]));
    return word;
#else
    return to_bf16(x[0]).bits | uint32_t{to_bf16(x[1]).bits} << 16;
#endif
  }
  static __device__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    cuda_emulator::mma(c, a, b, [](uint32_t x, uint32_t y, float sum) {
      const auto upper = [](uint32_t w) { return __uint_as_float(w & 0xffff0000u); };
      const auto lower = [](uint32_t w) { return __uint_as_float(w << 16); };
      return sum + lower(x) * lower(y) + upper(x) * upper(y);
    });
#endif
  }
};

struct Tf32Words {
  static constexpr int kPerWord = 1;

  static __device__ uint32_t pack(const float (&x)[kPerWord]) {
#ifdef __CUDACC__
    uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x[0]));
    return word;
#else
    return cuda_emulator::to_tf32(x[0]);
#endif
  }
  static __device__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    cuda_emulator::mma(c, a, b, [](uint32_t x, uint32_t y, float sum) {
      return sum + __uint_as_float(x) * __uint_as_float(y);
    });
#endif
  }
};

}  // namespace engine::kernels
