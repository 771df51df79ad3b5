#include "engine/gemm/bf16_tiles.h"

// Compiled for AMX and AVX-512 whatever the rest of the program is compiled for: nothing inline
// of other headers may be used here, since the linker might take this file's copy for all.
#ifdef ROBUSTMOE_AMX  // by CMakeLists.txt, with the compiler's flags

#include <immintrin.h>

namespace engine::kernels {
namespace {

// Eight registers of 16 rows with 64 bytes (Intel's manual, LDTILECFG).
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kConfig;

void begin() { _tile_loadconfig(&kConfig); }
void end() { _tile_release(); }

__mmask16 first(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}
__m512 load(const float* from, int64_t count) {
  return count >= 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(first(count), from);
}
// bf16 of 32 numbers, those of `low` first.
__m512i round_both(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Transposes 16 x 16 pairs: within 2 x 2, 4 x 4 of 128 bits each, then of the 128 bits.
void turn(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    const __m512i d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[i + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

// Row i of a block before it is turned.
__m512i row_along(const float* from, int64_t stride, int64_t lines, int64_t length, int64_t i) {
  if (i >= lines) return _mm512_setzero_si512();
  const float* line = from + i * stride;
  return round_both(load(line, length), load(line + 16, length - 16));
}
__m512i row_of_pairs(const float* from, int64_t stride, int64_t lines, int64_t length, int64_t i) {
  alignas(64) static constexpr int16_t kInterleave[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const int64_t p = 2 * i;
  if (p >= lines) return _mm512_setzero_si512();
  const __m512 even = load(from + p * stride, length);
  const __m512 odd = p + 1 < lines ? load(from + (p + 1) * stride, length) : _mm512_setzero_ps();
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), round_both(even, odd));
}

void pack(Bf16Packing how, const float* from, int64_t stride, int64_t lines, int64_t length,
          bf16* block) {
  __m512i rows[16];
  if (how.pairs) {
    for (int i = 0; i < 16; ++i) rows[i] = row_of_pairs(from, stride, lines, length, i);
  } else {
    for (int i = 0; i < 16; ++i) rows[i] = row_along(from, stride, lines, length, i);
  }
  if (how.turned) turn(rows);
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(block + 32 * i, rows[i]);
}

// Registers 0 to 3 hold the tile's quarters, 4 and 5 the strip's halves, 6 and 7 the panel's.
template <bool low_rows, bool right_cols>
void multiply_quarters(int64_t steps, const bf16* strip, const bf16* panel, float* tile,
                       int64_t stride) {
  constexpr int64_t kRowBytes = 64;
  const int64_t tile_bytes = stride * static_cast<int64_t>(sizeof(float));
  asm volatile("" ::: "memory");  // g++'s tile loads do not say that they read what was packed
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s, strip += 2 * kBf16Block, panel += 2 * kBf16Block) {
    _tile_loadd(4, strip, kRowBytes);
    _tile_loadd(6, panel, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (right_cols) {
      _tile_loadd(7, panel + kBf16Block, kRowBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (low_rows) {
      _tile_loadd(5, strip + kBf16Block, kRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (right_cols) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, tile, tile_bytes);
  if constexpr (right_cols) _tile_stored(1, tile + 16, tile_bytes);
  if constexpr (low_rows) _tile_stored(2, tile + 16 * stride, tile_bytes);
  if constexpr (low_rows && right_cols) _tile_stored(3, tile + 16 * stride + 16, tile_bytes);
}

void multiply(int64_t steps, int64_t rows, int64_t cols, const bf16* strip, const bf16* panel,
              float* tile, int64_t stride) {
  if (rows > 16) {
    return cols > 16 ? multiply_quarters<true, true>(steps, strip, panel, tile, stride)
                     : multiply_quarters<true, false>(steps, strip, panel, tile, stride);
  }
  return cols > 16 ? multiply_quarters<false, true>(steps, strip, panel, tile, stride)
                   : multiply_quarters<false, false>(steps, strip, panel, tile, stride);
}

}  // namespace

const Bf16Tiles* bf16_tiles_amx() {
  static constexpr Bf16Tiles kTiles{pack, multiply, begin, end};
  return &kTiles;
}

}  // namespace engine::kernels

#else

namespace engine::kernels {
const Bf16Tiles* bf16_tiles_amx() { return nullptr; }
}  // namespace engine::kernels

#endif
