#pragma once

#include <cstdint>

#include "tests/cuda_emulator/cuda_runtime.h"

// Tensor cores' products for the emulator, with fragments as PTX lays them out for m16n8 (see
// engine/gemm/mma.cuh). Sums go along k in order; a GPU's order is its own.
namespace cuda_emulator {

// f32 rounded to 10 bits of mantissa, to nearest with ties away from zero; NaN and infinity stay.
inline uint32_t to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return (finite ? bits + 0x1000u : bits) & 0xffffe000u;
}

// c += a b; sum = add(word of a, word of b, sum) multiplies two words and adds.
template <class Add>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Add& add) {
  struct A {
    uint32_t v[4];
  };
  struct B {
    uint32_t v[2];
  };
  const unsigned all = 0xffffffffu;
  const int g = static_cast<int>(lane() / 4), t = static_cast<int>(lane() % 4);
  A rows[4];
  B columns[2][4];
  for (int q = 0; q < 4; ++q) {
    rows[q] = __shfl_sync(all, A{{a[0], a[1], a[2], a[3]}}, 4 * g + q);
    // Every lane asks for another column: two exchanges for the two that a lane needs.
    for (int j = 0; j < 2; ++j) {
      columns[j][q] = __shfl_sync(all, B{{b[0], b[1]}}, 4 * (2 * t + j) + q);
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int word = 0; word < 8; ++word) {
      const A& row = rows[word % 4];
      const B& column = columns[i % 2][word % 4];
      c[i] = add(row.v[i / 2 + word / 4 * 2], column.v[word / 4], c[i]);
    }
  }
}

}  // namespace cuda_emulator
