#include <cfloat>
#include <cmath>

#include "engine/core/cuda_launch.cuh"
#include "engine/core/cuda_workspace.h"
#include "train/attacks/pixel_kernels.h"

namespace train::kernels {
namespace {

using engine::kEachThreads;

// As in ball.cc: the largest float that is not above `x`, the smallest that is not below.
__device__ float floor_float(double x) {
  const float near = static_cast<float>(x);
  return static_cast<double>(near) > x ? nextafterf(near, -INFINITY) : near;
}
__device__ float ceil_float(double x) {
  const float near = static_cast<float>(x);
  return static_cast<double>(near) < x ? nextafterf(near, INFINITY) : near;
}

__device__ float cut(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

__device__ float project_pixel(double eps, float clean, float x) {
  const float low = ceil_float(clean - eps), high = floor_float(clean + eps);
  return cut(x, low > 0 ? low : 0, high < 1 ? high : 1);
}

// The sum of squares of value(p) over a row's pixels, in every thread of the block.
template <class Value>
__device__ double square_sum(int64_t pixels, const Value& value) {
  double sum = 0;
  for (int64_t p = threadIdx.x; p < pixels; p += kEachThreads) {
    const double v = value(p);
    sum += v * v;
  }
  return engine::block_sum<kEachThreads>(sum);
}

// A block's row into the l2 ball and into [0, 1]; each thread has its own pixels.
__device__ void project_row(double eps, int64_t pixels, const float* clean, float* x) {
  const double far = sqrt(square_sum(pixels, [=](int64_t p) -> double {
    return static_cast<double>(x[p]) - static_cast<double>(clean[p]);
  }));
  const double share = far > eps ? eps / far : 1;
  for (int64_t p = threadIdx.x; p < pixels; p += kEachThreads) {
    const double from = clean[p], moved = from + share * (x[p] - from);
    x[p] = cut(moved > from ? floor_float(moved) : ceil_float(moved), 0, 1);
  }
}

__global__ void __launch_bounds__(kEachThreads)
    project_kernel(double eps, int64_t pixels, const float* clean, float* x) {
  const int64_t at = blockIdx.x * pixels;
  project_row(eps, pixels, clean + at, x + at);
}

// farthest: no step is longer.
__global__ void __launch_bounds__(kEachThreads)
    ascend_kernel(double eps, double farthest, int64_t pixels, const float* clean,
                  const float* gradient, const double* length, float* x) {
  const int64_t at = blockIdx.x * pixels;
  const double square = square_sum(pixels, [=](int64_t p) -> double { return gradient[at + p]; });
  const double step = length[blockIdx.x] < farthest ? length[blockIdx.x] : farthest;
  const double scale = square > 0 ? step / sqrt(square) : 0;
  for (int64_t p = threadIdx.x; p < pixels; p += kEachThreads) {
    x[at + p] = static_cast<float>(x[at + p] + scale * gradient[at + p]);
  }
  project_row(eps, pixels, clean + at, x + at);
}

}  // namespace

void normalise(Cuda on, const Channels& by, const float* from, float* to, int64_t n) {
  engine::launch_each(on, n, [=] __device__(int64_t i) {
    const int64_t c = by.of(i);
    to[i] = by.black[c] + by.unit[c] * from[i];
  });
}

void unnormalise(Cuda on, const Channels& by, const float* from, float* to, int64_t n) {
  engine::launch_each(on, n, [=] __device__(int64_t i) {
    const int64_t c = by.of(i);
    to[i] = cut((from[i] - by.black[c]) / by.unit[c], 0, 1);
  });
}

void times_unit(Cuda on, const Channels& by, const float* from, float* to, int64_t n) {
  engine::launch_each(on, n, [=] __device__(int64_t i) { to[i] = from[i] * by.unit[by.of(i)]; });
}

void ascend(Cuda on, const Ball& ball, RowsCols size, const float* clean, const float* gradient,
            const double* length, float* x) {
  const double eps = ball.eps;
  const int64_t pixels = size.cols;
  if (size.numel() == 0) return;
  if (ball.norm == Norm::kL2) {
    const double farthest = Ball{Norm::kL2, INFINITY}.reach(static_cast<size_t>(pixels));
    engine::launch(on, engine::blocks_for(size.rows, 1), kEachThreads, ascend_kernel, eps, farthest,
                   pixels, clean, gradient, length, x);
    return;
  }
  engine::launch_each(on, size.numel(), [=] __device__(int64_t i) {
    const double sign = (gradient[i] > 0 ? 1 : 0) - (gradient[i] < 0 ? 1 : 0);
    const float moved = static_cast<float>(x[i] + length[i / pixels] * sign);
    x[i] = project_pixel(eps, clean[i], moved);
  });
}

void project(Cuda on, const Ball& ball, RowsCols size, const float* clean, float* x) {
  const double eps = ball.eps;
  if (size.numel() == 0) return;
  if (ball.norm == Norm::kL2) {
    engine::launch(on, engine::blocks_for(size.rows, 1), kEachThreads, project_kernel, eps,
                   size.cols, clean, x);
    return;
  }
  engine::launch_each(on, size.numel(),
                      [=] __device__(int64_t i) { x[i] = project_pixel(eps, clean[i], x[i]); });
}

void keep_moving(Cuda on, const float* z, double a, float* before, float* x, int64_t n) {
  engine::launch_each(on, n, [=] __device__(int64_t i) {
    const double here = x[i];
    const double next = here + a * (z[i] - here) + (1 - a) * (here - before[i]);
    before[i] = x[i];
    x[i] = static_cast<float>(next);
  });
}

void copy_rows(Cuda on, RowsCols size, const float* from, const int64_t* from_rows, float* to,
               const int64_t* to_rows) {
  const int64_t pixels = size.cols;
  engine::launch_each(on, size.numel(), [=] __device__(int64_t i) {
    const int64_t k = i / pixels, p = i % pixels;
    const int64_t source = from_rows != nullptr ? from_rows[k] : k;
    const int64_t target = to_rows != nullptr ? to_rows[k] : k;
    to[target * pixels + p] = from[source * pixels + p];
  });
}

void add_not_finite(Cuda on, RowsCols size, const float* x, float* count) {
  if (size.numel() == 0) return;
  auto* of_row = static_cast<float*>(engine::cuda_workspace(size.rows * int64_t{sizeof(float)}));
  const int64_t pixels = size.cols;
  engine::launch_sums<float>(
      on, size.rows, pixels,
      [=] __device__(int64_t row, int64_t p) -> float {
        return fabsf(x[row * pixels + p]) <= FLT_MAX ? 0 : 1;  // not-a-number compares as false
      },
      [=] __device__(int64_t row, float sum) { of_row[row] = sum; });
  engine::launch_sums<float>(
      on, 1, size.rows, [=] __device__(int64_t, int64_t row) -> float { return of_row[row]; },
      [=] __device__(int64_t, float sum) { count[0] += sum; });
}

}  // namespace train::kernels
