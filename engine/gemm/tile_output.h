#pragma once

#include <cstdint>
#include <type_traits>

#include "engine/core/simd_gelu.h"
#include "engine/gemm/gemm.h"

// The end of every product on the CPU: a tile goes to where it belongs, with the epilogue.
// Include it in *_cpu.cc files only.
namespace engine::kernels {

// Where a finished tile goes and what is done to it on the way.
template <class T>
struct Output {
  T* c;
  int64_t ldc;
  bool add;              // to what is there: an earlier block of k, or accumulation
  bool last;             // the product is complete: apply the epilogue
  Epilogue<T> epilogue;  // pointers at this tile's origin
  bool stream = false;   // c and `activated` past the caches: see streams()

  bool without_epilogue() const {
    return !last || (epilogue.bias == nullptr && epilogue.residual == nullptr &&
                     epilogue.activated == nullptr);
  }
  // Whether a tile only has to be put there.
  bool plain() const { return !add && !stream && without_epilogue(); }
  // The same, further down or to the right.
  Output at(int64_t row, int64_t column) const {
    Output out = *this;
    const int64_t shift = row * ldc + column;
    out.c += shift;
    if (out.epilogue.bias != nullptr) out.epilogue.bias += column;
    if (out.epilogue.residual != nullptr) out.epilogue.residual += shift;
    if (out.epilogue.activated != nullptr) out.epilogue.activated += shift;
    return out;
  }
};

// Whether an output of m rows is worth that: larger than a core's share of the caches and written
// once, so that reading its old content to overwrite it would cost as much again as writing it.
// Measured: 6 MiB are written faster in place, 18 past the caches.
template <class T>
bool streams(int64_t m, const Output<T>& out, bool written_once) {
  constexpr int64_t kLarge = int64_t{12} << 20, kLine = 64;
  const auto whole_lines = [](const T* p) { return reinterpret_cast<uintptr_t>(p) % kLine == 0; };
  const int64_t row = out.ldc * static_cast<int64_t>(sizeof(T));
  return written_once && m * row >= kLarge && row % kLine == 0 && whole_lines(out.c) &&
         whole_lines(out.epilogue.activated);
}

// write_tile() with a number of columns that the compiler knows, or not.
template <class T, int64_t kStride, class Cols>
void write_columns(T* tile, int64_t rows, Cols cols, const Output<T>& out) {
  const Epilogue<T>& e = out.epilogue;
  // f(register of the tile, place in `with`, whose rows are `stride` apart, lanes that count).
  const auto each = [&](auto* with, int64_t stride, auto&& f) {
    for (int64_t r = 0; r < rows; ++r) {
      simd::for_lanes<T>(
          cols, [&](int64_t j, int64_t n) { f(tile + r * kStride + j, with + r * stride + j, n); });
    }
  };
  const auto add = [](T* x, const T* y, int64_t n) {
    simd::store(x, simd::add(simd::load(x), simd::load_n(y, n)));
  };
  const bool stream = out.stream && out.last;
  const auto put = [](T* to, const simd::Packet<T>& x, int64_t n, bool past_caches) {
    past_caches&& n == simd::kLanes<T> ? simd::stream(to, x) : simd::store_n(to, x, n);
  };
  if (out.add && out.without_epilogue()) {
    return each(out.c, out.ldc, [](const T* x, T* c, int64_t n) {
      simd::store_n(c, simd::add(simd::load_n(c, n), simd::load(x)), n);
    });
  }
  if (out.add) each(out.c, out.ldc, add);
  if (out.last) {
    if (e.bias != nullptr) each(e.bias, 0, add);
    if (e.residual != nullptr) each(e.residual, out.ldc, add);
    if (e.activated != nullptr) {
      const GeluForm form = e.form;
      each(e.activated, out.ldc, [form, stream, put](const T* x, T* to, int64_t n) {
        put(to, simd::gelu<T>(simd::load(x), form), n, stream);
      });
    }
  }
  if (stream && !out.add) {
    each(out.c, out.ldc, [put](const T* x, T* c, int64_t n) { put(c, simd::load(x), n, true); });
  } else {
    each(out.c, out.ldc, [put](const T* x, T* c, int64_t n) { put(c, simd::load(x), n, false); });
  }
}

// tile: `rows` rows, kStride elements apart, of which `cols` count; its content is used up. Tiles
// go through what is to be done one thing after the other, in the first cache and without a branch
// an element: those would cost a tenth of a product.
template <class T, int64_t kStride>
void write_tile(T* tile, int64_t rows, int64_t cols, const Output<T>& out) {
  if (cols == kStride) {
    write_columns<T, kStride>(tile, rows, std::integral_constant<int64_t, kStride>(), out);
  } else {
    write_columns<T, kStride>(tile, rows, cols, out);
  }
}

}  // namespace engine::kernels
