#pragma once

#include <cstdint>

#include "engine/core/precision.h"

// The innermost part of products in bf16: what a machine's instructions decide. Everything here
// works on blocks of 1 KiB that hold 16 x 16 pairs; a pair is two neighbours along k, since that
// is what the instructions multiply at a time.
namespace engine::kernels {

inline constexpr int64_t kBf16Tile = 32;        // rows and columns of a tile of c
inline constexpr int64_t kBf16Step = 32;        // k of one step
inline constexpr int64_t kBf16Block = 16 * 32;  // elements of a block

// How a block is made from lines of f32 in memory. `pairs`: k runs over the lines (up to 32 of 16
// elements), so that two lines make a row of pairs; otherwise along them (up to 16 lines of 32).
// `turned`: the block's rows are then its columns. For op(a), whose blocks have a row of c each:
// {false, false} as stored, {true, true} transposed; for op(b), with a column of c in each
// column: {true, false} as stored, {false, true} transposed.
struct Bf16Packing {
  bool pairs, turned;
};

struct Bf16Tiles {
  // Rounds `lines` x `length` floats to bf16 (to nearest, ties to even) into a block; what is
  // missing are zeros.
  void (*pack)(Bf16Packing how, const float* from, int64_t stride, int64_t lines, int64_t length,
               bf16* block);
  // tile (32,32), rows `stride` apart, = a strip of 32 rows times a panel of 32 columns over
  // `steps` steps of k, two blocks a step each (the second half's blocks after the first's). Only
  // `rows` and `cols` are needed; up to the next multiple of 16 may be written. Sums are f32, step
  // after step in increasing k.
  void (*multiply)(int64_t steps, int64_t rows, int64_t cols, const bf16* strip, const bf16* panel,
                   float* tile, int64_t stride);
  // Around all calls of multiply() on a thread.
  void (*begin)();
  void (*end)();
};

// AMX, or null where the compiler does not know it. Numbers below 2^-126 count as zero. To be
// called only where usable_isa() says so.
const Bf16Tiles* bf16_tiles_amx();

// What products in bf16 are made of: AMX where it is usable, else null, and they are products of
// f32 whose operands are rounded (Rounding in register_tile.h).
const Bf16Tiles* bf16_tiles();

// For tests, not while products run: takes other tiles, or none, until the end of the scope.
class Bf16TilesScope {
 public:
  explicit Bf16TilesScope(const Bf16Tiles* tiles);
  ~Bf16TilesScope();
  Bf16TilesScope(const Bf16TilesScope&) = delete;
  Bf16TilesScope& operator=(const Bf16TilesScope&) = delete;

 private:
  const Bf16Tiles* before_;
};

}  // namespace engine::kernels
