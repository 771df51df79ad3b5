#include <algorithm>
#include <cmath>
#include <span>

#include "engine/core/parallel.h"
#include "train/attacks/pixel_kernels.h"

namespace train::kernels {
namespace {

constexpr int64_t kPiece = 4096;  // elements of a task

// to = f(from, unit of the channel, black of the channel)
template <class F>
void for_pixels(const Channels& by, const float* from, float* to, int64_t n, F&& f) {
  engine::parallel_for(n / by.plane, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const float unit = by.unit[p % by.count], black = by.black[p % by.count];
      for (int64_t i = p * by.plane; i < (p + 1) * by.plane; ++i) to[i] = f(from[i], unit, black);
    }
  });
}

template <class F>
void for_rows(int64_t rows, F&& f) {
  engine::parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

// Row i of several.
template <class T>
std::span<T> row(T* x, RowsCols size, int64_t i) {
  return {x + i * size.cols, static_cast<size_t>(size.cols)};
}

}  // namespace

void normalise(Cpu, const Channels& by, const float* from, float* to, int64_t n) {
  for_pixels(by, from, to, n, [](float x, float unit, float black) { return black + unit * x; });
}

void unnormalise(Cpu, const Channels& by, const float* from, float* to, int64_t n) {
  for_pixels(by, from, to, n, [](float x, float unit, float black) {
    return std::clamp((x - black) / unit, 0.0f, 1.0f);
  });
}

void times_unit(Cpu, const Channels& by, const float* from, float* to, int64_t n) {
  for_pixels(by, from, to, n, [](float x, float unit, float) { return x * unit; });
}

void ascend(Cpu, const Ball& ball, RowsCols size, const float* clean, const float* gradient,
            const double* length, float* x) {
  for_rows(size.rows, [&](int64_t i) {
    ball.ascend(row(clean, size, i), row(gradient, size, i), length[i], row(x, size, i));
  });
}

void project(Cpu, const Ball& ball, RowsCols size, const float* clean, float* x) {
  for_rows(size.rows, [&](int64_t i) { ball.project(row(clean, size, i), row(x, size, i)); });
}

void keep_moving(Cpu, const float* z, double a, float* before, float* x, int64_t n) {
  engine::parallel_for(n, kPiece, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double here = x[i];
      const double next = here + a * (double{z[i]} - here) + (1 - a) * (here - before[i]);
      before[i] = x[i];
      x[i] = static_cast<float>(next);
    }
  });
}

void copy_rows(Cpu, RowsCols size, const float* from, const int64_t* from_rows, float* to,
               const int64_t* to_rows) {
  for_rows(size.rows, [=](int64_t k) {
    std::ranges::copy(row(from, size, from_rows != nullptr ? from_rows[k] : k),
                      row(to, size, to_rows != nullptr ? to_rows[k] : k).begin());
  });
}

void add_not_finite(Cpu, RowsCols size, const float* x, float* count) {
  count[0] += static_cast<float>(
      std::count_if(x, x + size.numel(), [](float v) { return !std::isfinite(v); }));
}

}  // namespace train::kernels
