#pragma once

#include <cstdint>
#include <span>

#include "engine/gemm/gemm.h"

// Convolutions as products, without an array of all windows in memory: the windows of a few pixels
// at a time are laid out in the first cache, multiplied and forgotten. Pictures are (B, H, W, C).
namespace engine::kernels {

// Output pixel (y, x) reads input pixel (y * stride + tap.y, x * stride + tap.x), zeros where there
// is none, and multiplies its channels by block `block` of the weights.
struct Tap {
  int64_t y, x, block;
};

// A grid of output pixels and what each of them sees: row r of the windows, (rows, taps * C), is
// output pixel r, its columns the taps' channels one tap after the other.
struct Windows {
  int64_t batch = 0, in_h = 0, in_w = 0, channels = 0;
  int64_t out_h = 0, out_w = 0;
  int64_t stride = 1;
  std::span<const Tap> taps;

  int64_t rows() const { return batch * out_h * out_w; }
  int64_t depth() const { return static_cast<int64_t>(taps.size()) * channels; }
};

// Where an output pixel (y, x) lies in a picture of h x w: at (y * step + y0, x * step + x0).
struct Placement {
  int64_t h, w, step = 1, y0 = 0, x0 = 0;
};

// c = windows(x) (rows, taps * C) times the taps' blocks (taps * C, n), + bias (n) where there is
// one. Block i of `weight` is (C, n), or with Trans::kYes (n, C), dense. c is (B, h, w, n) of
// `place`; pixels that no output pixel lies on stay as they are. A bias with step > 1 is not
// offered. Without taps the product is zeros. Elements are chains as gemm.h promises, so a
// picture's bits do not depend on the others. c must not alias the inputs.
template <class T>
void window_product(Cpu, const Windows& windows, const T* x, Trans tb, const T* weight, int64_t n,
                    T* c, const Placement& place, GradWrite write, const T* bias,
                    Precision precision);
template <class T>
void window_product(Cuda, const Windows& windows, const T* x, Trans tb, const T* weight, int64_t n,
                    T* c, const Placement& place, GradWrite write, const T* bias,
                    Precision precision);

// c (taps * C, n) = windows(x)^T times dy (rows, n): the gradient of weights. Rows are cut into
// chunks by their number and added in order, whatever the number of threads.
template <class T>
void window_product_transposed(Cpu, const Windows& windows, const T* x, const T* dy, int64_t n,
                               T* c, GradWrite write, Precision precision);
template <class T>
void window_product_transposed(Cuda, const Windows& windows, const T* x, const T* dy, int64_t n,
                               T* c, GradWrite write, Precision precision);

}  // namespace engine::kernels
