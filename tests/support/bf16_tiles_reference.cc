#include "tests/support/bf16_tiles_reference.h"

#include <algorithm>
#include <cmath>

namespace engine::test {
namespace {

using kernels::Bf16Packing;
using kernels::Bf16Tiles;
using kernels::kBf16Block;

void pack(Bf16Packing how, const float* from, int64_t stride, int64_t lines, int64_t length,
          bf16* block) {
  std::fill(block, block + kBf16Block, bf16{});
  for (int64_t i = 0; i < lines; ++i) {
    for (int64_t j = 0; j < length; ++j) {
      // Row, column and half of a pair before turning.
      const int64_t row = how.pairs ? i / 2 : i, column = how.pairs ? j : j / 2;
      const int64_t half = (how.pairs ? i : j) % 2;
      const int64_t at = how.turned ? column * 16 + row : row * 16 + column;
      block[2 * at + half] = to_bf16(from[i * stride + j]);
    }
  }
}

// One row of a tile times one block's 16 columns.
void multiply_row(const bf16* row, const bf16* block, float* out) {
  for (int64_t pair = 0; pair < 16; ++pair) {
    const float first = to_float(row[2 * pair]), second = to_float(row[2 * pair + 1]);
    const bf16* b = block + 32 * pair;
    for (int64_t j = 0; j < 16; ++j) {
      out[j] =
          std::fma(second, to_float(b[2 * j + 1]), std::fma(first, to_float(b[2 * j]), out[j]));
    }
  }
}

void multiply(int64_t steps, int64_t rows, int64_t cols, const bf16* strip, const bf16* panel,
              float* tile, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    float* out = tile + r * stride;
    std::fill_n(out, cols > 16 ? 32 : 16, 0.0f);
    for (int64_t s = 0; s < steps; ++s) {
      const bf16* row = strip + (2 * s + r / 16) * kBf16Block + r % 16 * 32;
      const bf16* blocks = panel + 2 * s * kBf16Block;
      multiply_row(row, blocks, out);
      if (cols > 16) multiply_row(row, blocks + kBf16Block, out + 16);
    }
  }
}

}  // namespace

const Bf16Tiles& bf16_tiles_reference() {
  static constexpr Bf16Tiles kTiles{pack, multiply, [] {}, [] {}};
  return kTiles;
}

}  // namespace engine::test
