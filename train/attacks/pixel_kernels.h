#pragma once

#include <cstdint>

#include "engine/core/backend.h"
#include "train/attacks/ball.h"

// Raw kernels of attacks: images are rows of f32 pixels, one after the other.
namespace train::kernels {

using engine::Cpu;
using engine::Cuda;
using engine::RowsCols;

// Where the loader's normalisation puts the pixels of each channel, as pixel_range.h says.
struct Channels {
  const float *unit, *black;  // (count): of white minus black, of black
  int64_t count, plane;       // pixels of a channel

  constexpr int64_t of(int64_t i) const { return i / plane % count; }
};

// n elements of whole images: to = black + unit * from; to = (from - black) / unit, cut to [0, 1];
// to = unit * from.
void normalise(Cpu, const Channels& by, const float* from, float* to, int64_t n);
void normalise(Cuda, const Channels& by, const float* from, float* to, int64_t n);
void unnormalise(Cpu, const Channels& by, const float* from, float* to, int64_t n);
void unnormalise(Cuda, const Channels& by, const float* from, float* to, int64_t n);
void times_unit(Cpu, const Channels& by, const float* from, float* to, int64_t n);
void times_unit(Cuda, const Channels& by, const float* from, float* to, int64_t n);

// Ball::ascend and Ball::project of every row; length (rows). With kLinf the same bits on both.
void ascend(Cpu, const Ball& ball, RowsCols size, const float* clean, const float* gradient,
            const double* length, float* x);
void ascend(Cuda, const Ball& ball, RowsCols size, const float* clean, const float* gradient,
            const double* length, float* x);
void project(Cpu, const Ball& ball, RowsCols size, const float* clean, float* x);
void project(Cuda, const Ball& ball, RowsCols size, const float* clean, float* x);

// x <- x + a (z - x) + (1 - a)(x - before) and before <- x, n elements, in f64.
void keep_moving(Cpu, const float* z, double a, float* before, float* x, int64_t n);
void keep_moving(Cuda, const float* z, double a, float* before, float* x, int64_t n);

// Row to_rows[k] of `to` becomes row from_rows[k] of `from`, k < size.rows; null: k itself. No row
// of `to` is written twice, and `to` is not `from`.
void copy_rows(Cpu, RowsCols size, const float* from, const int64_t* from_rows, float* to,
               const int64_t* to_rows);
void copy_rows(Cuda, RowsCols size, const float* from, const int64_t* from_rows, float* to,
               const int64_t* to_rows);

// count[0] += how many of the elements are not finite.
void add_not_finite(Cpu, RowsCols size, const float* x, float* count);
void add_not_finite(Cuda, RowsCols size, const float* x, float* count);

}  // namespace train::kernels
